-- Which documents are misclassified, and which words misled?
SELECT
    d.run_id, d.doc_id, d.label, d.predicted, d.probability,
    list(w.word ORDER BY w.logit_effect DESC)[:3] AS misleading_words, left(d.text, 80) AS text
FROM documents AS d
JOIN words AS w ON w.run_id = d.run_id AND w.doc_id = d.doc_id
WHERE NOT d.correct AND d.target = d.predicted AND w.logit_effect > 0
GROUP BY d.run_id, d.doc_id, d.label, d.predicted, d.probability, d.text
ORDER BY d.probability DESC, d.run_id, d.doc_id
LIMIT 20
