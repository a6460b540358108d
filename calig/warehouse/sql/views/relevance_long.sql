SELECT run_id, doc_id, position, token, is_special, depth, ig, ctx
FROM (
    SELECT
        run_id, doc_id, position, token, is_special,
        unnest(range($depths))::INTEGER AS depth, unnest([$ig]) AS ig, unnest([NULL::FLOAT, $ctx]) AS ctx
    FROM tokens
)
WHERE ig IS NOT NULL
