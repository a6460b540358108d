-- Which documents are driven most by a single token?
-- rows = 20: how many rows
WITH driven AS (
    SELECT
        run_id, doc_id, arg_max(token, abs(logit_effect)) AS token,
        max(abs(logit_effect)) / sum(abs(logit_effect)) AS share
    FROM tokens
    WHERE NOT is_special AND (run_id, doc_id) IN (SELECT (run_id, doc_id) FROM documents WHERE in_statistics)
    GROUP BY run_id, doc_id
    ORDER BY share DESC, run_id, doc_id
    LIMIT {rows}
)
SELECT t.run_id, t.doc_id, d.target AS class, t.token, t.share, left(d.text, 80) AS text
FROM driven AS t
JOIN documents AS d ON d.run_id = t.run_id AND d.doc_id = t.doc_id
ORDER BY t.share DESC, t.run_id, t.doc_id
