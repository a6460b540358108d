-- The sampled documents.
SELECT
    doc_id, source_id, text, text_pair, label, label_value, predicted, predicted_labels, target, correct, probability, logit, baseline_logit,
    error_estimate, completeness_error, converged, tokens, truncated, settling_depth
FROM documents
WHERE run_id = $run AND doc_id IN (SELECT unnest($docs));
