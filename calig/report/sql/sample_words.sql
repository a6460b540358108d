-- Where the listed words stand in the sampled documents. (list_contains, unlike a join, reaches below the view's sums.)
SELECT DISTINCT word, doc_id, word_id
FROM words
WHERE run_id = $run
    AND list_contains($docs, doc_id)
    AND word IN (SELECT unnest($words))
ORDER BY word, doc_id, word_id;
