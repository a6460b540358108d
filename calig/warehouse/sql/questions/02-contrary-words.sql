-- Which words speak against the class they are found in, beyond doubt?
-- needs: a run on texts
-- rows = 20: how many rows
SELECT run_id, class, word, documents, effect, effect_low, effect_high, same_sign_share
FROM word_stats
WHERE run_id IN (SELECT run_id FROM documents) AND effect_high < 0
ORDER BY effect
LIMIT {rows}
