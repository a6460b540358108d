-- Which documents converged least?
-- rows = 20: how many rows
SELECT run_id, doc_id, source_id, error_estimate, completeness_error, nodes, tokens, left(text, 80) AS text
FROM documents
WHERE failure IS NULL
ORDER BY error_estimate DESC, run_id, doc_id
LIMIT {rows}
