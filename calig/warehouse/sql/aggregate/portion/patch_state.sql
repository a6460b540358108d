INSERT INTO patch_state BY NAME
SELECT
    d.target AS class, d.grid_rows, d.grid_columns, p.patch_row, p.patch_column, count(*) AS documents,
    sum(p.logit_effect) AS effect, sum(share_units(p.share)) AS share, count(p.share) AS share_known
FROM (
    SELECT
        *,
        abs(logit_effect)::DOUBLE / nullif(sum(abs(logit_effect)) OVER (PARTITION BY doc_id)::DOUBLE, 0) AS share
    FROM patches
) AS p
JOIN counted AS d ON d.doc_id = p.doc_id
GROUP BY d.target, d.grid_rows, d.grid_columns, p.patch_row, p.patch_column
