-- Every class, and how many documents are explained as it.
SELECT
    s.class, s.labelled, s.predicted, s.correct, s.precision, s.recall, s.mean_probability, s.mean_settling_depth,
    coalesce(d.explained, 0) AS explained
FROM class_stats AS s
LEFT JOIN (
    SELECT target, count(*) AS explained FROM documents WHERE run_id = $run AND failure IS NULL GROUP BY target
) AS d ON d.target = s.class
WHERE s.run_id = $run
ORDER BY s.class_id;
