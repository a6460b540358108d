-- Convergence per depth.
SELECT
    depth, documents, converged, median_error_estimate, worst_error_estimate,
    median_completeness_error, worst_completeness_error, mean_nodes, max_nodes
FROM completeness
WHERE run_id = $run
ORDER BY depth;
