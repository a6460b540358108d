-- Which words drive "positive", and are they about the thing reviewed or about how the review came in?
-- A word that works in every category and from every source, and is there when the model errs, is a shortcut.
WITH top AS (
    SELECT run_id, word, documents, effect, effect_low, effect_high
    FROM word_stats
    WHERE class = 'positive' AND run_id IN (SELECT run_id FROM documents)
    ORDER BY effect DESC
    LIMIT 8
),
uses AS (
    SELECT run_id, doc_id, word, category, source, label <> 'positive' AS wrong, sum(logit_effect) AS effect
    FROM words JOIN documents USING (run_id, doc_id)
    WHERE target = 'positive'
    GROUP BY ALL
),
slices AS (
    SELECT run_id, word, avg(effect) AS effect FROM uses GROUP BY run_id, word, category
    UNION ALL
    SELECT run_id, word, avg(effect) FROM uses GROUP BY run_id, word, source
)
SELECT
    word,
    round(top.effect, 2) AS effect,
    top.documents,
    round(top.documents / (SELECT count(*) FROM documents WHERE target = 'positive'), 2) AS share,
    (SELECT count(DISTINCT category) FROM uses u WHERE (u.run_id, u.word) = (top.run_id, top.word)) AS categories,
    (SELECT round(min(s.effect), 2) FROM slices s WHERE (s.run_id, s.word) = (top.run_id, top.word)) AS least_in_a_slice,
    (SELECT count(*) FILTER (wrong) FROM uses u WHERE (u.run_id, u.word) = (top.run_id, top.word)) AS wrongly_positive
FROM top
ORDER BY top.effect DESC
