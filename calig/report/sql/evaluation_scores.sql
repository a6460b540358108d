-- What every method scored on some documents.
SELECT doc_id, method, scores FROM read_parquet($files, union_by_name = true)
WHERE list_contains($docs, doc_id) AND scores IS NOT NULL ORDER BY doc_id, method;
