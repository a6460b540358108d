-- Of each run the watched terms, over all documents.
SELECT w.run_id, w.list, w.term, w.share, w.effect
FROM watched w
JOIN runs r ON r.run_id = w.run_id
WHERE r.name = $name AND r.status IN ('complete', 'partial') AND w.class = '*'
ORDER BY w.list, w.term <> '*', w.term;
