INSERT INTO completeness BY NAME
SELECT
    $run_id AS run_id, depth,
    count(*) AS documents,
    count(*) FILTER (converged) AS converged,
    median(error_estimate) AS median_error_estimate,
    max(error_estimate) AS worst_error_estimate,
    median(completeness_error) AS median_completeness_error,
    max(completeness_error) AS worst_completeness_error,
    avg(nodes) AS mean_nodes,
    max(nodes) AS max_nodes
FROM quadrature
GROUP BY depth
ORDER BY depth
