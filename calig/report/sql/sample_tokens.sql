-- The sampled documents' tokens with layer-wise IG of every depth as one list: word by word, where a token in several
-- words has a row for each, with its share; tokens in no word where they stand.
SELECT
    t.doc_id, t.token, coalesce(w.word_id, -1) AS word_id,
    coalesce(w.char_start, t.char_start) AS char_start, coalesce(w.char_end, t.char_end) AS char_end,
    t.is_special, t.segment, t.score * coalesce(w.share, 1) AS score, t.logit_effect * coalesce(w.share, 1) AS logit_effect,
    list_transform(t.layer_ig, lambda ig: ig * coalesce(w.share, 1)) AS layer_ig
FROM (
    SELECT run_id, doc_id, position, token, is_special, segment, char_start, char_end, score, logit_effect,
        list_value(*COLUMNS('^ig_[0-9]+$')) AS layer_ig
    FROM tokens
    WHERE run_id = $run AND list_contains($docs, doc_id)
) AS t
LEFT JOIN (
    SELECT *, characters / token_characters AS share, min(position) OVER (PARTITION BY doc_id, word_id) AS place
    FROM word_tokens
    WHERE run_id = $run AND list_contains($docs, doc_id)
) AS w ON w.doc_id = t.doc_id AND w.position = t.position
ORDER BY t.doc_id, coalesce(w.place, t.position), w.word_id, t.position;
