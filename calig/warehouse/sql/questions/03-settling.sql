-- At which depth does the answer settle?
SELECT
    run_id, target AS class, settling_depth, count(*) AS documents,
    count(*) / sum(count(*)) OVER (PARTITION BY run_id, target) AS share
FROM documents
WHERE in_statistics
GROUP BY run_id, target, settling_depth
ORDER BY run_id, class, settling_depth NULLS LAST
