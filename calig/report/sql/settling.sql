-- How many documents settle at each depth; null counts those that never do.
SELECT settling_depth AS depth, count(*) AS documents
FROM documents
WHERE run_id = $run AND in_statistics
GROUP BY settling_depth
ORDER BY settling_depth NULLS LAST;
