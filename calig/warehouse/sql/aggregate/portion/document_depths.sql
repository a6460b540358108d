INSERT INTO document_depths BY NAME
SELECT $run_id AS run_id, * FROM portion_depths ORDER BY doc_id, depth
