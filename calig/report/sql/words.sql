-- The words with the largest effect for and against each explained class; those whose interval excludes zero first.
WITH signed AS (
    SELECT *, effect > 0 AS supports, (effect_low > 0 OR effect_high < 0) AS clear
    FROM word_stats
    WHERE run_id = $run AND class <> '*' AND effect <> 0
),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY class, supports ORDER BY clear DESC, abs(effect) DESC, word) AS place
    FROM signed
)
SELECT class, word, supports, clear, documents, occurrences, effect, effect_low, effect_high, same_sign_share,
    if(supports, example_for, example_against) AS example
FROM ranked
WHERE place <= $per_side
ORDER BY class, supports DESC, place;
