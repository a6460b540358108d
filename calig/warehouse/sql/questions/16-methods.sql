-- Which methods of explanation are most faithful, and what do they cost?
-- needs: an evaluation, which `calig evaluate CONFIG.yaml` makes
SELECT
    s.evaluation_id, s.removal, s.method, s.mean AS comprehensiveness, s.low, s.high, s.difference,
    s.difference_low, s.difference_high, s.win_rate, m.passes, m.seconds
FROM evaluation_stats AS s
JOIN evaluation_methods AS m USING (evaluation_id, method)
WHERE s.metric = 'comprehensiveness' AND s.share IS NULL
ORDER BY s.evaluation_id, s.removal, s.mean DESC
