-- How far do the maps of two depths agree? Mean correlation over documents (1,000 at random), special tokens apart
WITH drawn AS (
    SELECT run_id, doc_id FROM documents
    WHERE failure IS NULL
    QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY hash(doc_id), doc_id) <= 1000
),
content AS (
    SELECT run_id, doc_id, position, depth, ig::DOUBLE AS ig
    FROM relevance_long
    WHERE NOT is_special AND (run_id, doc_id) IN (SELECT (run_id, doc_id) FROM drawn)
),
pairs AS (
    SELECT
        a.run_id, a.doc_id, a.depth, b.depth AS other,
        CASE WHEN min(a.ig) < max(a.ig) AND min(b.ig) < max(b.ig) THEN corr(a.ig, b.ig) END AS agreement
    FROM content AS a
    JOIN content AS b ON b.run_id = a.run_id AND b.doc_id = a.doc_id AND b.position = a.position AND b.depth > a.depth
    GROUP BY a.run_id, a.doc_id, a.depth, b.depth
)
SELECT run_id, depth, other, count(agreement) AS documents, avg(agreement) AS agreement
FROM pairs
GROUP BY run_id, depth, other
ORDER BY run_id, depth, other
