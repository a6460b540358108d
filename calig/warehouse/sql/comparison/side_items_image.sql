-- Of images regions stand in place of words: the nine that thirds of height and width make, and the border within them.
CREATE TEMP TABLE ${side}_items AS
WITH placed AS (
    SELECT doc_id, region, border, logit_effect FROM patches
    WHERE doc_id IN (SELECT doc_id FROM ${side}_documents)
)
SELECT doc_id, region AS word, sum(logit_effect)::DOUBLE AS effect, false AS within
FROM placed GROUP BY doc_id, region
UNION ALL
SELECT doc_id, 'border' AS word, sum(logit_effect)::DOUBLE AS effect, true AS within
FROM placed WHERE border GROUP BY doc_id
