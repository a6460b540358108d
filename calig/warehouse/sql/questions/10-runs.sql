-- What runs are there, and how did they go?
SELECT
    run_id, started, model_id, documents, attributed, reused, failures, truncated, accuracy,
    converged_share, worst_completeness_error, attribution_seconds
FROM runs
ORDER BY started DESC, run_id
