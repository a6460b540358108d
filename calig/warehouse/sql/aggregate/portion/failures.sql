INSERT INTO failures BY NAME
SELECT
    $run_id AS run_id, d.doc_id, d.source_id, d.doc_key, d.failure AS reason,
    coalesce(a.failure_detail, 'no finished shard holds this document: run the audit again') AS detail
FROM documents AS d
LEFT JOIN portion_attributed AS a ON a.doc_key = d.doc_key
WHERE d.failure IS NOT NULL
ORDER BY d.doc_id
