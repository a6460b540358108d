-- The documents of the corpus, not of contrast pairs, on which the methods disagree most.
SELECT doc_id, source_id, words, label, target, predicted, probability, disagreement
FROM evaluation_documents WHERE evaluation_id = $evaluation AND doc_id >= 0 AND disagreement IS NOT NULL AND NOT isnan(disagreement)
ORDER BY disagreement DESC, doc_id LIMIT $most;
