-- Medians are those of bins about 1 % wide: of the two middle documents, the mean of the middles of their bins.
INSERT INTO completeness BY NAME
WITH placed AS (
    SELECT
        depth, measure, bin_size(bin) AS size,
        sum(documents) OVER (PARTITION BY depth, measure ORDER BY bin) AS reached,
        sum(documents) OVER (PARTITION BY depth, measure) AS documents
    FROM error_state
),
medians AS (
    SELECT
        depth, measure,
        (
            min(size) FILTER (reached >= (documents + 1) // 2) + min(size) FILTER (reached >= (documents + 2) // 2)
        ) / 2 AS size
    FROM placed
    GROUP BY depth, measure
)
SELECT
    $run_id AS run_id, s.depth, s.documents, s.converged,
    e.size AS median_error_estimate, s.greatest_error_estimate AS worst_error_estimate,
    c.size AS median_completeness_error, s.greatest_completeness_error AS worst_completeness_error,
    s.nodes / nullif(s.nodes_known, 0) AS mean_nodes, s.greatest_nodes AS max_nodes
FROM depth_state AS s
LEFT JOIN medians AS e ON e.depth = s.depth AND e.measure = 'error_estimate'
LEFT JOIN medians AS c ON c.depth = s.depth AND c.measure = 'completeness_error'
ORDER BY s.depth
