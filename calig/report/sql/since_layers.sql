-- The reference's layer profile over all documents; where it is gone, what the comparison kept of it. Comparisons of before
-- `tests_paired` was kept have another cancellation: the mean of the documents' own.
SELECT class, depth, documents, cancellation, effective_tokens, special_share, rank_agreement, sign_agreement, context_ratio
FROM layer_stats
WHERE run_id = $reference AND class = '*'
UNION ALL
SELECT
    '*', depth, any_value(documents_a),
    any_value(a) FILTER (WHERE measure = 'cancellation' AND EXISTS (
        SELECT 1 FROM comparisons WHERE run_id = $run AND reference_id = $reference AND tests_paired IS NOT NULL
    )),
    any_value(a) FILTER (WHERE measure = 'effective_tokens'), any_value(a) FILTER (WHERE measure = 'special_share'),
    any_value(a) FILTER (WHERE measure = 'rank_agreement'), any_value(a) FILTER (WHERE measure = 'sign_agreement'),
    any_value(a) FILTER (WHERE measure = 'context_ratio')
FROM comparison_layers
WHERE run_id = $run AND reference_id = $reference AND class = '*'
    AND NOT EXISTS (SELECT 1 FROM layer_stats WHERE run_id = $reference)
GROUP BY depth
ORDER BY depth;
