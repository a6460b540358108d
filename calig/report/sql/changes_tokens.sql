-- Some documents' tokens in order, with their effect in logits.
SELECT doc_id, token, word_id, char_start, char_end, is_special, segment, logit_effect
FROM tokens
WHERE run_id = $run AND list_contains($docs, doc_id)
ORDER BY doc_id, position;
