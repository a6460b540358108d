INSERT INTO evaluation_methods BY NAME
SELECT $evaluation_id AS evaluation_id, m.method, m.title, c.passes, c.seconds, m.refusal
FROM methods AS m
LEFT JOIN (
    SELECT method, avg(passes) AS passes, avg(seconds) AS seconds
    FROM evaluated_scores
    GROUP BY method
) AS c ON c.method = m.method
ORDER BY m.place
