-- How far do the maps of two depths agree? Mean correlation over documents, special tokens apart
WITH content AS (
    SELECT run_id, doc_id, position, depth, ig::DOUBLE AS ig FROM relevance_long WHERE NOT is_special
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
