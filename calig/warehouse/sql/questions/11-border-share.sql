-- Do images speak from their borders and corners, a classic shortcut? Most beyond its area first
SELECT run_id, class, region, documents, lift, share, area, effect, effect_low, effect_high
FROM region_stats
WHERE run_id IN (SELECT run_id FROM documents)
ORDER BY lift DESC, run_id, class, region
