-- Which documents are misclassified, and which words misled?
-- needs: a run on texts whose documents have labels
-- rows = 20: how many rows
WITH wrong AS (
    SELECT run_id, doc_id, label, predicted, probability, text, text_pair
    FROM documents
    WHERE NOT correct AND target = predicted AND in_statistics
    ORDER BY probability DESC, run_id, doc_id
    LIMIT {rows}
),
words AS (  -- of these documents alone: the view would make those of all
    SELECT
        t.run_id, t.doc_id, w.word_id,
        sum(t.logit_effect * w.characters / w.token_characters) AS logit_effect,
        lower(trim(substr(
            any_value(if(w.segment = 1, d.text_pair, d.text)), min(w.char_start) + 1, max(w.char_end) - min(w.char_start)
        ), E' \t\r\n')) AS word
    FROM wrong AS d
    JOIN tokens AS t ON t.run_id = d.run_id AND t.doc_id = d.doc_id
    JOIN word_tokens AS w ON w.run_id = t.run_id AND w.doc_id = t.doc_id AND w.position = t.position
    GROUP BY t.run_id, t.doc_id, w.word_id
)
SELECT
    d.run_id, d.doc_id, d.label, d.predicted, d.probability,
    list(w.word ORDER BY w.logit_effect DESC)[:3] AS misleading_words, left(any_value(d.text), 80) AS text
FROM wrong AS d
JOIN words AS w ON w.run_id = d.run_id AND w.doc_id = d.doc_id
WHERE w.logit_effect > 0
GROUP BY d.run_id, d.doc_id, d.label, d.predicted, d.probability
ORDER BY d.probability DESC, d.run_id, d.doc_id
