-- Which words speak most for and against each class?
-- needs: a run on texts
SELECT run_id, class, word, documents, effect, effect_low, effect_high
FROM word_stats
WHERE run_id IN (SELECT run_id FROM documents)
QUALIFY row_number() OVER (PARTITION BY run_id, class ORDER BY effect DESC) <= 10
    OR row_number() OVER (PARTITION BY run_id, class ORDER BY effect) <= 10
ORDER BY run_id, class, effect DESC
