INSERT INTO evaluation BY NAME
SELECT $evaluation_id AS evaluation_id, doc_id, method, metric, removal, share, value
FROM evaluated_values
ORDER BY metric, removal, share, method, doc_id
