-- Words called changed, and of each class the largest differences that are not; the weight is the change of effect × share.
SELECT
    class, word, documents_a, documents_b, share_a, share_b, effect_a, effect_b, difference, low, high,
    least(q, share_q) AS q, coalesce(sign_flip, false) AS sign_flip, coalesce(flips, 0) AS flips, change,
    coalesce(changed, false) AS changed,
    abs(coalesce(effect_b, 0) * coalesce(share_b, 0) - coalesce(effect_a, 0) * coalesce(share_a, 0)) AS weight, state
FROM comparison_words
WHERE run_id = $run AND reference_id = $reference
QUALIFY CASE WHEN coalesce(changed, false)
    THEN row_number() OVER (PARTITION BY coalesce(changed, false) ORDER BY class = '*', weight DESC, class, word) <= $limit
    ELSE row_number() OVER (PARTITION BY class, coalesce(changed, false) ORDER BY weight DESC, word) <= $unchanged
    AND dense_rank() OVER (PARTITION BY coalesce(changed, false) ORDER BY class) <= $classes END
ORDER BY class = '*', class, coalesce(changed, false) DESC, weight DESC, word;
