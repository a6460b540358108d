-- Do images speak from their border and corners, a classic shortcut? The most beyond its area first, the centre left out
-- needs: a run on images
SELECT run_id, class, region, documents, lift, share, area, effect, effect_low, effect_high
FROM region_stats
WHERE run_id IN (SELECT run_id FROM documents) AND region <> 'centre'
ORDER BY lift DESC, run_id, class, region
