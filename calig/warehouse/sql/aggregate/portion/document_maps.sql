-- One row per image and depth below L, and one, without a depth, for the final score.
INSERT INTO document_maps BY NAME
WITH long AS (
    SELECT
        t.doc_id,
        t.patch_row IN (0, d.grid_rows - 1) OR t.patch_column IN (0, d.grid_columns - 1) AS border,
        (t.patch_row + 0.5) / d.grid_rows AS height,
        (t.patch_column + 0.5) / d.grid_columns AS width,
        unnest(list_append(range($depths - 1), NULL))::INTEGER AS depth,
        unnest(list_append(
            list_transform(([$ig]::DOUBLE[])[:$depths - 1], lambda ig: effect_units(abs(ig))), abs(t.score)
        )) AS mass
    FROM tokens AS t
    JOIN explained AS d ON d.doc_id = t.doc_id
    WHERE t.patch_row IS NOT NULL
),
sums AS (
    SELECT
        doc_id, depth,
        nullif(sum(mass)::DOUBLE, 0) AS total,
        coalesce(sum(mass) FILTER (border), 0)::DOUBLE AS at_border,
        count(*) FILTER (border) / count(*) AS border_area,
        sum(round(mass::DOUBLE * height)::HUGEINT)::DOUBLE AS height,
        sum(round(mass::DOUBLE * width)::HUGEINT)::DOUBLE AS width
    FROM long
    GROUP BY doc_id, depth
)
SELECT
    $run_id AS run_id, doc_id, depth,
    at_border / total AS border_share,
    at_border / total / border_area AS border_lift,
    height / total AS centre_row,
    width / total AS centre_column
FROM sums
ORDER BY doc_id, depth NULLS LAST
