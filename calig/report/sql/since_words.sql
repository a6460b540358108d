-- The words of a class that changed most in each comparison: by how far effect × share of documents moved.
SELECT reference_id, class, word, change, effect_a, effect_b
FROM comparison_words
WHERE run_id = $run AND changed AND class <> '*'
QUALIFY row_number() OVER (
    PARTITION BY reference_id
    ORDER BY
        abs(coalesce(effect_b, 0) * coalesce(share_b, 0) - coalesce(effect_a, 0) * coalesce(share_a, 0)) DESC, word, class
) <= $limit
ORDER BY
    reference_id,
    abs(coalesce(effect_b, 0) * coalesce(share_b, 0) - coalesce(effect_a, 0) * coalesce(share_a, 0)) DESC, word, class;
