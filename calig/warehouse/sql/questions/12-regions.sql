-- Which regions of the image speak for and against each class?
-- needs: a run on images
SELECT run_id, class, region, documents, effect, effect_low, effect_high, same_sign_share
FROM region_stats
WHERE run_id IN (SELECT run_id FROM documents) AND region <> 'border'
ORDER BY run_id, class, effect DESC
