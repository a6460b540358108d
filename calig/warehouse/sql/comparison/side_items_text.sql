-- A word once per document; `within` says that it lies within others of the document.
CREATE TEMP TABLE ${side}_items AS
SELECT doc_id, word, sum(logit_effect)::DOUBLE AS effect, false AS within
FROM words
WHERE word <> '' AND doc_id IN (SELECT doc_id FROM ${side}_documents)
GROUP BY doc_id, word
