SELECT $run_id AS run_id, d.doc_id, a.thumbnail
FROM ($thumbnails) AS a
JOIN $run_documents AS d ON $shown
WHERE a.thumbnail IS NOT NULL
