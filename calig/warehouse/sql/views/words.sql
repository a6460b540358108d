SELECT
    run_id, doc_id, word_id,
    lower(written) AS word, written AS text, char_start, char_end, logit_effect, score
FROM (
    SELECT w.*, trim(substr(d.text, w.char_start + 1, w.char_end - w.char_start), E' \t\r\n') AS written
    FROM (
        SELECT
            run_id, doc_id, word_id, min(char_start) AS char_start, max(char_end) AS char_end,
            sum(logit_effect) AS logit_effect, sum(score) AS score
        FROM tokens
        WHERE NOT is_special AND word_id >= 0
        GROUP BY run_id, doc_id, word_id
    ) AS w
    JOIN documents AS d ON d.run_id = w.run_id AND d.doc_id = w.doc_id
)
