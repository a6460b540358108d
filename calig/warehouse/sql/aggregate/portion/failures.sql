INSERT INTO failures BY NAME
SELECT
    $run_id AS run_id, d.doc_id, d.source_id, d.doc_key, d.failure AS reason,
    coalesce(
        a.failure_detail,
        CASE d.failure
            WHEN 'no-label' THEN 'it has no label, and method.target: label explains the labelled class'
            ELSE 'no finished shard holds this document: run the audit again'
        END
    ) AS detail
FROM documents AS d
JOIN portion_rows AS r ON r.doc_id = d.doc_id
LEFT JOIN portion_attributed AS a ON a.doc_key = d.doc_key AND a.target IS NOT DISTINCT FROM r.$explained
WHERE d.failure IS NOT NULL
ORDER BY d.doc_id
