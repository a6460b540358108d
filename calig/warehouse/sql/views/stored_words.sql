-- Words of a run whose tables are of before words were found in the text: the tokenizer's own, as its tables have them.
SELECT
    $run_id AS run_id, d.doc_id, t.position, t.word_id, t.segment,
    min(t.char_start) OVER (PARTITION BY d.doc_id, t.word_id) AS char_start,
    max(t.char_end) OVER (PARTITION BY d.doc_id, t.word_id) AS char_end,
    1 AS characters, 1 AS token_characters, true AS main
FROM ($tokens) AS t
JOIN $run_documents AS d ON d.doc_key = t.doc_key AND $of_class
WHERE NOT t.is_special AND t.word_id >= 0
