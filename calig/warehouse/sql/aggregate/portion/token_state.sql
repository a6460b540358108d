INSERT INTO token_state BY NAME
SELECT class, token, count(*) AS documents, sum(occurrences)::BIGINT AS occurrences, sum(effect) AS effect, sum(score) AS score
FROM (
    SELECT
        d.target AS class, t.token, t.doc_id, count(*) AS occurrences, sum(t.logit_effect) AS effect, sum(t.score) AS score
    FROM tokens AS t
    JOIN counted AS d ON d.doc_id = t.doc_id
    GROUP BY d.target, t.token, t.doc_id
)
GROUP BY class, token
