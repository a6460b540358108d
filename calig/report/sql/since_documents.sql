-- What some documents are called, and whether they failed.
SELECT doc_id, source_id, failure FROM documents WHERE run_id = $run AND doc_id IN (SELECT unnest($docs));
