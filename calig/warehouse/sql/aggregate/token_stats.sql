INSERT INTO token_stats BY NAME
SELECT
    $run_id AS run_id,
    d.target AS class,
    t.token,
    count(DISTINCT t.doc_id) AS documents,
    count(*) AS occurrences,
    avg(t.logit_effect) AS effect,
    avg(t.score) AS score
FROM tokens AS t
JOIN explained AS d ON d.doc_id = t.doc_id
GROUP BY d.target, t.token
ORDER BY class, token
