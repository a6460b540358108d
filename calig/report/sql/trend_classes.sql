-- Of each run the share of documents predicted as each class.
SELECT c.run_id, c.class, c.predicted / sum(c.predicted) OVER (PARTITION BY c.run_id) AS share
FROM class_stats c
JOIN runs r ON r.run_id = c.run_id
WHERE r.name = $name AND r.status IN ('complete', 'partial') AND c.predicted IS NOT NULL
ORDER BY c.run_id, c.class_id;
