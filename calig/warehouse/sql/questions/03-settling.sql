-- At which depth does the answer settle?
SELECT
    target AS class, settling_depth, count(*) AS documents,
    count(*) / sum(count(*)) OVER (PARTITION BY target) AS share
FROM documents
WHERE failure IS NULL
GROUP BY target, settling_depth
ORDER BY class, settling_depth NULLS LAST
