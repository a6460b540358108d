SELECT
    $run_id AS run_id, d.doc_id, d.source_id, d.doc_key, c.text,
    coalesce(($classes)[d.label + 1], d.label::VARCHAR) AS label, d.label AS label_id,
    coalesce(($classes)[a.predicted + 1], a.predicted::VARCHAR) AS predicted, a.predicted AS predicted_id,
    coalesce(($classes)[a.target + 1], a.target::VARCHAR) AS target, a.target AS target_id,
    a.predicted = d.label AS correct,
    a.probability, a.logits, a.logit, a.baseline_logit,
    list_max(a.error_estimate) AS error_estimate,
    list_max(a.completeness_error) AS completeness_error,
    list_bool_and(a.converged) AS converged,
    list_sum(a.nodes)::BIGINT AS nodes,
    a.block_passes, a.tokens, a.truncated, a.seconds, s.settling_depth,
    CASE WHEN a.doc_key IS NULL THEN 'missing' ELSE a.failure END AS failure
    $extra
FROM $run_documents AS d
LEFT JOIN ($documents) AS a ON a.doc_key = d.doc_key
LEFT JOIN $corpus AS c ON c.doc_id = d.doc_id
LEFT JOIN settling AS s ON s.run_id = $run_id AND s.doc_id = d.doc_id
