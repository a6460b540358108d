-- The regions of every explained class, strongest first; those whose interval excludes zero come first.
SELECT class, region, documents, effect, effect_low, effect_high, share, area, lift
FROM region_stats
WHERE run_id = $run AND class <> '*' AND effect_low IS NOT NULL  -- one image or two give no interval
ORDER BY class, (effect_low > 0 OR effect_high < 0) DESC, abs(effect) DESC, region;
