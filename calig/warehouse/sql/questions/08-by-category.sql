-- How does it go by a column of the corpus?
-- column = category: the column, of those that `documents` has
SELECT
    run_id, {column}, count(*) AS documents, avg(correct::INTEGER) AS accuracy,
    avg(probability) AS mean_probability, avg(logit - baseline_logit) AS mean_evidence,
    count(failure) AS failures
FROM documents
GROUP BY run_id, {column}
ORDER BY run_id, accuracy
