-- A word once per document.
CREATE OR REPLACE TEMP TABLE word_documents AS
SELECT
    d.target AS class, w.word AS item, w.doc_id, count(*) AS occurrences,
    sum(w.logit_effect) AS effect, sum(w.score) AS score
FROM words AS w
JOIN counted AS d ON d.doc_id = w.doc_id
WHERE w.word <> ''
GROUP BY d.target, w.word, w.doc_id
