SELECT
    $run_id AS run_id, d.doc_id, d.source_id, d.doc_key, $text AS text, $text_pair AS text_pair,
    $image AS image,
    coalesce(
        ($classes)[$label_id + 1], ($label_id)::VARCHAR,
        array_to_string(list_transform($label_ids, lambda i: ($classes)[i + 1]), ', '), ($label_value)::VARCHAR
    ) AS label,
    $label_id AS label_id, list_transform($label_ids, lambda i: ($classes)[i + 1]) AS labels, $label_value AS label_value,
    coalesce(($classes)[a.predicted + 1], a.predicted::VARCHAR) AS predicted, a.predicted AS predicted_id,
    list_transform(a.predicted_ids, lambda i: ($classes)[i + 1]) AS predicted_labels,
    CASE WHEN a.failure IS NULL THEN coalesce(($classes)[a.target + 1], a.target::VARCHAR) END AS target,
    CASE WHEN a.failure IS NULL THEN a.target END AS target_id,
    CASE WHEN $head = 'multi_label' THEN a.predicted_ids = $label_ids ELSE a.predicted = $label_id END AS correct,
    a.probability, a.logits, a.logit, a.baseline_logit,
    list_max(a.error_estimate) AS error_estimate,
    list_max(a.completeness_error) AS completeness_error,
    list_bool_and(a.converged) AS converged,
    CASE WHEN a.failure IS NULL THEN $fixed_steps OR coalesce(list_bool_and(a.converged), true) END AS in_statistics,
    list_sum(a.nodes)::BIGINT AS nodes,
    a.block_passes, a.tokens, $grid, a.truncated, a.seconds, s.settling_depth,
    CASE WHEN a.doc_key IS NULL THEN $absent ELSE a.failure END AS failure
    $extra
FROM $run_documents AS d
LEFT JOIN (
    -- p > 0.5 is logit > 0
    SELECT
        *,
        CASE WHEN $head = 'multi_label'
            THEN list_filter(range(len(logits))::INTEGER[], lambda i: logits[i + 1] > 0) END AS predicted_ids
    FROM ($documents)
) AS a ON $shown
LEFT JOIN $corpus AS c ON c.doc_id = d.doc_id
LEFT JOIN settling AS s ON s.run_id = $run_id AND s.doc_id = d.doc_id
