-- What some documents hold: of texts also the words that people marked, of images the grid and a thumbnail.
SELECT * FROM read_parquet($files, union_by_name = true) WHERE list_contains($docs, doc_id) ORDER BY doc_id;
