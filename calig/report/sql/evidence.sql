-- The documents, among these, in which a listed word of the class that they are explained as acts in its usual direction.
WITH listed AS (
    SELECT unnest($classes) AS class, unnest($words) AS word, unnest($supports) AS supports
)
SELECT l.class, l.word, w.doc_id
FROM words AS w
JOIN documents AS d ON d.doc_id = w.doc_id AND d.run_id = $run
JOIN listed AS l ON l.class = d.target AND l.word = w.word
WHERE w.run_id = $run AND d.in_statistics AND list_contains($docs, w.doc_id)
GROUP BY l.class, l.word, w.doc_id, l.supports
HAVING round(sum(w.logit_effect), 6) * if(l.supports, 1, -1) > 0
ORDER BY w.doc_id, l.class, l.word;
