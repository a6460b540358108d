-- The words that changed most in each comparison, each in the class in which effect × share of documents moved furthest.
SELECT reference_id, class, word, change, effect_a, effect_b
FROM (
    SELECT
        *, abs(coalesce(effect_b, 0) * coalesce(share_b, 0) - coalesce(effect_a, 0) * coalesce(share_a, 0)) AS moved
    FROM comparison_words
    WHERE run_id = $run AND changed AND class <> '*'
    QUALIFY row_number() OVER (PARTITION BY reference_id, word ORDER BY moved DESC, class) = 1
)
QUALIFY row_number() OVER (PARTITION BY reference_id ORDER BY moved DESC, word) <= $limit
ORDER BY reference_id, moved DESC, word;
