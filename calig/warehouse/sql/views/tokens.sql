SELECT
    $run_id AS run_id, d.doc_id, d.doc_key, t.position, t.token::VARCHAR AS token,
    $own,
    $columns,
    $effect AS logit_effect,
    $score AS score
FROM ($tokens) AS t
JOIN (SELECT doc_key, $scales FROM ($documents) WHERE failure IS NULL) AS a ON a.doc_key = t.doc_key
JOIN $run_documents AS d ON d.doc_key = t.doc_key
$words
