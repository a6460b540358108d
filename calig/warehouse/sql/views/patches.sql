SELECT
    t.run_id, t.doc_id, t.position, t.patch_row, t.patch_column,
    -- 3 times the centre, (patch_row + 1/2) / grid_rows, rounded down: which third it lies in, 0, 1 or 2
    ['top left', 'top', 'top right', 'left', 'centre', 'right', 'bottom left', 'bottom', 'bottom right'][
        1 + 3 * ((6 * t.patch_row::INTEGER + 3) // (2 * d.grid_rows::INTEGER))
        + (6 * t.patch_column::INTEGER + 3) // (2 * d.grid_columns::INTEGER)
    ] AS region,
    t.patch_row IN (0, d.grid_rows - 1) OR t.patch_column IN (0, d.grid_columns - 1) AS border,
    t.logit_effect, t.score
FROM tokens AS t
JOIN documents AS d ON d.run_id = t.run_id AND d.doc_id = t.doc_id
WHERE t.patch_row IS NOT NULL
