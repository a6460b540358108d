-- How far do the maps of two depths agree? Mean correlation over documents (1,000 at random), special tokens apart
WITH drawn AS (
    SELECT run_id, doc_id FROM documents
    WHERE in_statistics
    QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY hash(doc_id), doc_id) <= 1000
),
content AS (
    SELECT t.run_id, t.doc_id, list_value(*COLUMNS('^ig_[0-9]+$'))::DOUBLE[] AS ig
    FROM drawn AS d
    JOIN tokens AS t ON t.run_id = d.run_id AND t.doc_id = d.doc_id
    WHERE NOT t.is_special
),
depths AS (
    SELECT a.depth, b.depth AS other
    FROM range((SELECT max(len(ig)) FROM content)) AS a(depth)
    JOIN range((SELECT max(len(ig)) FROM content)) AS b(depth) ON b.depth > a.depth
),
pairs AS (
    SELECT c.run_id, c.doc_id, p.depth, p.other, c.ig[p.depth + 1] AS a, c.ig[p.other + 1] AS b
    FROM content AS c, depths AS p
),
agreements AS (
    SELECT
        run_id, doc_id, depth, other,
        CASE WHEN min(a) < max(a) AND min(b) < max(b) THEN corr(a, b) END AS agreement
    FROM pairs
    WHERE b IS NOT NULL  -- a depth that another run's model has
    GROUP BY run_id, doc_id, depth, other
)
SELECT run_id, depth::INTEGER AS depth, other::INTEGER AS other, count(agreement) AS documents, avg(agreement) AS agreement
FROM agreements
GROUP BY run_id, depth, other
ORDER BY run_id, depth, other
