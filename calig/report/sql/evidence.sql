-- For every listed word of a class, the documents explained as the class where the word acts most in its usual direction.
WITH listed AS (
    SELECT unnest($classes) AS class, unnest($words) AS word, unnest($supports) AS supports
),
occurrences AS (
    SELECT l.class, l.word, w.doc_id, round(sum(w.logit_effect), 6) * if(any_value(l.supports), 1, -1) AS strength
    FROM words AS w
    JOIN documents AS d ON d.doc_id = w.doc_id AND d.run_id = $run
    JOIN listed AS l ON l.class = d.target AND l.word = w.word
    WHERE w.run_id = $run
    GROUP BY l.class, l.word, w.doc_id
),
numbered AS (
    SELECT *, row_number() OVER (PARTITION BY class, word ORDER BY strength DESC, doc_id) AS place FROM occurrences
)
SELECT class, word, doc_id
FROM numbered
WHERE place <= $limit
ORDER BY place, class, word;
