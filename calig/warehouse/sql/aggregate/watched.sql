INSERT INTO watched BY NAME
WITH classes AS (
    SELECT class, count(DISTINCT doc_id) AS documents, sum(gross) AS gross
    FROM (
        SELECT unnest([d.target, '*']) AS class, d.doc_id, t.gross
        FROM explained AS d
        LEFT JOIN (
            SELECT doc_id, sum(abs(logit_effect)) AS gross FROM run_tokens WHERE NOT is_special GROUP BY doc_id
        ) AS t ON t.doc_id = d.doc_id
    )
    GROUP BY class
),
terms AS (
    SELECT number, list, term FROM watch_terms
    UNION ALL
    SELECT min(number) - 0.5, list, '*' FROM watch_terms GROUP BY list
),
sums AS (
    SELECT
        list, term, class, count(*) AS documents, sum(occurrences)::BIGINT AS occurrences,
        sum(gross) AS gross, avg(effect) AS effect
    FROM watched_documents
    GROUP BY list, term, class
)
SELECT
    $run_id AS run_id, t.list, t.term, c.class,
    coalesce(s.documents, 0) AS documents,
    coalesce(s.occurrences, 0) AS occurrences,
    coalesce(s.documents, 0) / c.documents AS document_share,
    coalesce(s.gross, 0) / nullif(c.gross, 0) AS share,
    s.effect, i.effect_low, i.effect_high
FROM terms AS t
CROSS JOIN classes AS c
LEFT JOIN sums AS s ON s.list = t.list AND s.term = t.term AND s.class = c.class
LEFT JOIN item_intervals AS i ON i.class = c.class AND i.item = t.list || '/' || t.term
ORDER BY t.number, c.class
