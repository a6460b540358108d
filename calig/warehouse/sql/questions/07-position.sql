-- Where in the documents does the evidence lie, by tenths of their length?
SELECT
    t.run_id, floor(10 * t.position / d.tokens)::INTEGER AS tenth,
    count(*) AS tokens,
    avg(abs(t.logit_effect)) AS mean_absolute_effect,
    sum(abs(t.logit_effect)) / sum(sum(abs(t.logit_effect))) OVER (PARTITION BY t.run_id) AS share
FROM tokens AS t
JOIN documents AS d ON d.run_id = t.run_id AND d.doc_id = t.doc_id
WHERE NOT t.is_special AND d.in_statistics
GROUP BY t.run_id, floor(10 * t.position / d.tokens)
ORDER BY t.run_id, tenth
