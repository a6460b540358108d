INSERT INTO runs BY NAME
SELECT
    m.*, s.documents, s.failures, s.truncated, s.unconverged,
    s.correct / nullif(s.correct_known, 0) AS accuracy,
    s.missed_by::DOUBLE / $value_units / nullif(s.pairs, 0) AS mean_absolute_error,
    $correlation::DOUBLE AS correlation,
    d.converged_share, d.worst_completeness_error, d.worst_error_estimate,
    s.block_passes, s.seconds::DOUBLE / $share_units AS attribution_seconds,
    $label_order AS label_order, $label_order_accuracy AS label_order_accuracy
FROM manifest AS m, run_state AS s,
    (
        SELECT
            sum(converged) / nullif(sum(converged_known), 0) AS converged_share,
            max(greatest_completeness_error) AS worst_completeness_error,
            max(greatest_error_estimate) AS worst_error_estimate
        FROM depth_state
    ) AS d
