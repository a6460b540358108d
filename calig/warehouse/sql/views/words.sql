SELECT
    run_id, doc_id, word_id,
    lower(written) AS word, written AS text, segment, char_start, char_end, logit_effect, score
FROM (
    SELECT
        w.*,
        trim(
            substr(if(w.segment = 1, d.text_pair, d.text), w.char_start + 1, w.char_end - w.char_start),
            E' \t\r\n'
        ) AS written
    FROM (
        SELECT
            run_id, doc_id, word_id, any_value(segment) AS segment,
            min(char_start) AS char_start, max(char_end) AS char_end,
            sum(logit_effect) AS logit_effect, sum(score) AS score
        FROM tokens
        WHERE NOT is_special AND word_id >= 0
        GROUP BY run_id, doc_id, word_id
    ) AS w
    JOIN documents AS d ON d.run_id = w.run_id AND d.doc_id = w.doc_id
)
