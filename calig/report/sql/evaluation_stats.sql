-- Means and intervals of every method, metric, removal and share.
SELECT method, metric, removal, share, documents, mean, low, high, difference, difference_low, difference_high, win_rate
FROM evaluation_stats WHERE evaluation_id = $evaluation ORDER BY metric, removal, method, share;
