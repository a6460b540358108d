CREATE TEMP TABLE ${side}_depths AS
SELECT
    doc_id, depth, cancellation, effective_tokens, special_share, rank_agreement, sign_agreement, context_ratio
FROM document_depths
WHERE run_id = $run_id AND doc_id IN (SELECT doc_id FROM ${side}_documents)
