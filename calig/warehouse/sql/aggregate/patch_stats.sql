-- The mean relevance map of a class, for each size of grid that its images have.
INSERT INTO patch_stats BY NAME
SELECT
    $run_id AS run_id, d.target AS class, d.grid_rows, d.grid_columns, p.patch_row, p.patch_column,
    count(*) AS documents,
    avg(p.logit_effect) AS effect,
    avg(abs(p.logit_effect) / nullif(p.gross, 0)) AS share
FROM (SELECT *, sum(abs(logit_effect)) OVER (PARTITION BY doc_id) AS gross FROM patches) AS p
JOIN explained AS d ON d.doc_id = p.doc_id
GROUP BY d.target, d.grid_rows, d.grid_columns, p.patch_row, p.patch_column
ORDER BY class, d.grid_rows, d.grid_columns, p.patch_row, p.patch_column
