-- What some documents are.
SELECT doc_id, source_id, text, text_pair, image, target
FROM documents
WHERE run_id = $run AND doc_id IN (SELECT unnest($docs));
