-- The sampled documents' tokens in order, with layer-wise IG of every depth as one list.
SELECT
    doc_id, token, word_id, char_start, char_end, is_special, segment, score, logit_effect,
    list_value(*COLUMNS('^ig_[0-9]+$')) AS layer_ig
FROM tokens
WHERE run_id = $run AND list_contains($docs, doc_id)
ORDER BY doc_id, position;
