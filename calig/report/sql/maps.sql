-- The mean relevance map of every explained class, of the grid that most of its images have.
WITH grids AS (
    SELECT class, grid_rows, grid_columns, max(documents) AS documents
    FROM patch_stats
    WHERE run_id = $run AND class <> '*'
    GROUP BY class, grid_rows, grid_columns
),
ranked AS (
    SELECT
        *,
        sum(documents) OVER (PARTITION BY class) - documents AS others,
        row_number() OVER (PARTITION BY class ORDER BY documents DESC, grid_rows, grid_columns) AS place
    FROM grids
)
SELECT
    class, grid_rows, grid_columns, any_value(r.documents) AS documents, any_value(r.others) AS others,
    list(p.effect ORDER BY p.patch_row, p.patch_column) AS effects,
    list(p.share ORDER BY p.patch_row, p.patch_column) AS shares
FROM ranked AS r
JOIN patch_stats AS p USING (class, grid_rows, grid_columns)
WHERE p.run_id = $run AND r.place = 1
GROUP BY class, grid_rows, grid_columns
ORDER BY class;
