SELECT
    $run_id AS run_id, doc_id, position, word_id, segment, char_start, char_end, characters, token_characters, main
FROM $words
