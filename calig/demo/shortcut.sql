-- Which words drive "positive", and do they belong to what is reviewed?
-- One at work in every category, and in reviews that are wrongly called positive, is a shortcut.
SELECT
    word,
    round(any_value(s.effect), 2) AS effect,
    count(DISTINCT doc_id) AS documents,
    count(DISTINCT category) AS categories,
    count(DISTINCT doc_id) FILTER (NOT correct) AS wrong
FROM word_stats s
JOIN words USING (run_id, word)
JOIN documents USING (run_id, doc_id)
WHERE s.class = 'positive' AND target = 'positive'
GROUP BY word
ORDER BY any_value(s.effect) DESC
LIMIT 8
