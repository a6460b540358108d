-- The layer profile of every explained class and of all documents ('*').
SELECT class, depth, documents, cancellation, effective_tokens, special_share, rank_agreement, sign_agreement, context_ratio
FROM layer_stats
WHERE run_id = $run
ORDER BY class, depth;
