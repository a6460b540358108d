-- The mean relevance map of a class, for each size of grid that its images have.
INSERT INTO patch_stats BY NAME
SELECT
    $run_id AS run_id, class, grid_rows, grid_columns, patch_row, patch_column, documents,
    effect::DOUBLE / $effect_units / documents AS effect,
    share::DOUBLE / $share_units / nullif(share_known, 0) AS share
FROM patch_state
ORDER BY class, grid_rows, grid_columns, patch_row, patch_column
