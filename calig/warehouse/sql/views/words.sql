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
            t.run_id, t.doc_id, w.word_id, any_value(w.segment) AS segment,
            any_value(w.char_start) AS char_start, any_value(w.char_end) AS char_end,
            sum(if(w.token_characters = 1, t.logit_effect, t.logit_effect * w.characters $over w.token_characters))
                AS logit_effect,
            sum(if(w.token_characters = 1, t.score, t.score * w.characters $over w.token_characters)) AS score
        FROM tokens AS t
        JOIN word_tokens AS w ON w.run_id = t.run_id AND w.doc_id = t.doc_id AND w.position = t.position
        GROUP BY t.run_id, t.doc_id, w.word_id
    ) AS w
    JOIN documents AS d ON d.run_id = w.run_id AND d.doc_id = w.doc_id
)
