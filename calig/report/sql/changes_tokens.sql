-- Some documents' tokens with their effect in logits, word by word; a token in several words has a row for each.
SELECT
    t.doc_id, t.token, coalesce(w.word_id, -1) AS word_id,
    coalesce(w.char_start, t.char_start) AS char_start, coalesce(w.char_end, t.char_end) AS char_end,
    t.is_special, t.segment, t.logit_effect * coalesce(w.share, 1) AS logit_effect
FROM tokens AS t
LEFT JOIN (
    SELECT *, characters / token_characters AS share, min(position) OVER (PARTITION BY doc_id, word_id) AS place
    FROM word_tokens
    WHERE run_id = $run AND list_contains($docs, doc_id)
) AS w ON w.doc_id = t.doc_id AND w.position = t.position
WHERE t.run_id = $run AND list_contains($docs, t.doc_id)
ORDER BY t.doc_id, coalesce(w.place, t.position), w.word_id, t.position;
