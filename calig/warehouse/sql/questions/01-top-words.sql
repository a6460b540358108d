-- Which words speak most for and against each class?
SELECT class, word, documents, effect, effect_low, effect_high
FROM word_stats
WHERE run_id = (SELECT any_value(run_id) FROM documents)
QUALIFY row_number() OVER (PARTITION BY class ORDER BY effect DESC) <= 10
    OR row_number() OVER (PARTITION BY class ORDER BY effect) <= 10
ORDER BY class, effect DESC
