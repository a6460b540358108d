-- Where the listed words stand in the sampled documents.
SELECT DISTINCT word, doc_id, word_id
FROM words
WHERE run_id = $run
    AND doc_id IN (SELECT unnest($docs))
    AND word IN (SELECT unnest($words))
ORDER BY word, doc_id, word_id;
