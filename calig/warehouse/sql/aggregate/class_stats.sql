INSERT INTO class_stats BY NAME
SELECT
    $run_id AS run_id, class, class_id, labelled,
    CASE WHEN $head <> 'regression' THEN predicted END AS predicted,
    CASE WHEN $head <> 'regression' THEN correct END AS correct,
    correct / nullif(predicted_labelled, 0) AS precision,
    CASE WHEN $head <> 'regression' THEN correct / nullif(labelled, 0) END AS recall,
    probability::DOUBLE / $share_units / nullif(probability_known, 0) AS mean_probability,
    settling_depth / nullif(settled, 0) AS mean_settling_depth
FROM class_state
ORDER BY class_id
