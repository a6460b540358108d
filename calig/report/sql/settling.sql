-- How many documents settle at each depth; null counts those that never do.
SELECT settling_depth AS depth, count(*) AS documents
FROM settling
WHERE run_id = $run
GROUP BY settling_depth
ORDER BY settling_depth NULLS LAST;
