-- Of each run the layer profile over all documents.
SELECT l.run_id, l.depth, l.cancellation, l.effective_tokens, l.special_share, l.rank_agreement, l.sign_agreement, l.context_ratio
FROM layer_stats l
JOIN runs r ON r.run_id = l.run_id
WHERE r.name = $name AND r.status IN ('complete', 'partial') AND l.class = '*'
ORDER BY l.run_id, l.depth;
