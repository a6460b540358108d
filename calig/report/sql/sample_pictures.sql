-- The sampled images' thumbnails and grids, and how much each adds to the page.
SELECT d.doc_id, d.tokens, d.grid_rows, d.grid_columns, t.thumbnail
FROM documents AS d
LEFT JOIN thumbnails AS t ON t.doc_id = d.doc_id AND t.run_id = d.run_id
WHERE d.run_id = $run AND d.doc_id IN (SELECT unnest($docs))
ORDER BY d.doc_id;
