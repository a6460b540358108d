INSERT INTO evaluation_documents BY NAME
SELECT
    $evaluation_id AS evaluation_id, d.doc_id, d.source_id, d.doc_key, d.words, d.label, d.target, d.predicted,
    d.probability, g.disagreement, d.failure, d.failure_detail
FROM evaluated_documents AS d
LEFT JOIN disagreements AS g ON g.doc_id = d.doc_id
ORDER BY d.doc_id
