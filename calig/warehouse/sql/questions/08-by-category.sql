-- How does it go by a column of the corpus (here: category)?
SELECT
    run_id, category, count(*) AS documents, avg(correct::INTEGER) AS accuracy,
    avg(probability) AS mean_probability, avg(logit - baseline_logit) AS mean_evidence,
    count(failure) AS failures
FROM documents
GROUP BY run_id, category
ORDER BY run_id, accuracy
