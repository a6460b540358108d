-- The sampled images' tokens: special ones in order, then patches row by row, with layer-wise IG of every depth as one list.
SELECT
    doc_id, token, is_special, patch_row, patch_column, score, list_value(*COLUMNS('^ig_[0-9]+$')) AS layer_ig
FROM tokens
WHERE run_id = $run AND list_contains($docs, doc_id)
ORDER BY doc_id, is_special DESC, patch_row, patch_column, position;
