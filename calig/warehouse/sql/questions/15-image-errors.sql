-- Which images are misclassified, and which regions misled?
-- needs: a run on images that have labels
-- rows = 20: how many rows
WITH regions AS (
    SELECT run_id, doc_id, region, sum(logit_effect) AS effect FROM patches GROUP BY run_id, doc_id, region
)
SELECT
    d.run_id, d.doc_id, d.label, d.predicted, d.probability,
    arg_max(r.region, r.effect) AS misleading_region, max(r.effect) AS effect, d.image
FROM documents AS d
JOIN regions AS r ON r.run_id = d.run_id AND r.doc_id = d.doc_id
WHERE NOT d.correct AND d.target = d.predicted AND r.effect > 0 AND d.in_statistics
GROUP BY d.run_id, d.doc_id, d.label, d.predicted, d.probability, d.image
ORDER BY d.probability DESC, d.run_id, d.doc_id
LIMIT {rows}
