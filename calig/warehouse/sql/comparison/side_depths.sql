-- Cancellation is compared as the ratio of the sums of gross and net, as `layer_stats` has it.
CREATE TEMP TABLE ${side}_depths AS
SELECT
    doc_id, depth, gross, abs(net) AS net, cancellation, effective_tokens, special_share, rank_agreement, sign_agreement, context_ratio
FROM document_depths
WHERE run_id = $run_id AND doc_id IN (SELECT doc_id FROM ${side}_documents)
