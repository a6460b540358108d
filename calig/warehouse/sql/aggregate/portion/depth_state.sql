CREATE OR REPLACE TEMP TABLE quadrature AS
SELECT
    d.doc_id,
    unnest(range($depths))::INTEGER AS depth,
    unnest(a.error_estimate)::DOUBLE AS error_estimate,
    unnest(a.completeness_error)::DOUBLE AS completeness_error,
    unnest(a.converged) AS converged,
    unnest(a.nodes) AS nodes
FROM explained AS d
JOIN portion_attributed AS a ON a.doc_key = d.doc_key AND a.target = d.target_id;

INSERT INTO depth_state BY NAME
SELECT
    depth, count(*) AS documents,
    count(*) FILTER (converged) AS converged, count(converged) AS converged_known,
    sum(nodes)::BIGINT AS nodes, count(nodes) AS nodes_known, max(nodes) AS greatest_nodes,
    max(error_estimate) AS greatest_error_estimate, max(completeness_error) AS greatest_completeness_error
FROM quadrature
GROUP BY depth;

INSERT INTO error_state BY NAME
SELECT depth, measure, size_bin(size) AS bin, count(*) AS documents
FROM (
    UNPIVOT (SELECT depth, error_estimate, completeness_error FROM quadrature)
    ON error_estimate, completeness_error INTO NAME measure VALUE size
)
GROUP BY ALL
