-- A region of an image once per document: the nine that thirds of height and width make, and the border, which overlaps them.
CREATE OR REPLACE TEMP TABLE region_documents AS
WITH placed AS (
    SELECT
        doc_id, region, border, logit_effect,
        sum(abs(logit_effect)) OVER (PARTITION BY doc_id) AS gross,
        count(*) OVER (PARTITION BY doc_id) AS patches
    FROM patches
),
regions AS (
    SELECT doc_id, region, logit_effect, gross, patches FROM placed
    UNION ALL
    SELECT doc_id, 'border', logit_effect, gross, patches FROM placed WHERE border
)
SELECT
    d.target AS class, r.region AS item, r.doc_id,
    sum(r.logit_effect) AS effect,
    sum(abs(r.logit_effect))::DOUBLE / nullif(any_value(r.gross)::DOUBLE, 0) AS share,
    count(*) / any_value(r.patches) AS area
FROM regions AS r
JOIN counted AS d ON d.doc_id = r.doc_id
GROUP BY d.target, r.region, r.doc_id
