-- Which documents are driven most by a single token?
SELECT
    t.run_id, t.doc_id, d.target AS class, arg_max(t.token, abs(t.logit_effect)) AS token,
    max(abs(t.logit_effect)) / sum(abs(t.logit_effect)) AS share, left(d.text, 80) AS text
FROM tokens AS t
JOIN documents AS d ON d.run_id = t.run_id AND d.doc_id = t.doc_id
WHERE NOT t.is_special
GROUP BY t.run_id, t.doc_id, d.target, d.text
ORDER BY share DESC, t.run_id, t.doc_id
LIMIT 20
