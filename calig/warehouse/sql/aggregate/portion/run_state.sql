INSERT INTO run_state BY NAME
SELECT
    $run_id AS run_id, count(*) AS documents, count(failure) AS failures,
    count(*) FILTER (failure IS NULL AND truncated) AS truncated, count(*) FILTER (NOT in_statistics) AS unconverged,
    count(*) FILTER (failure IS NULL AND correct) AS correct,
    count(correct) FILTER (failure IS NULL) AS correct_known,
    sum(value_units(abs(logit - label_value))) FILTER (failure IS NULL) AS missed_by,
    count(label_value) FILTER (failure IS NULL AND logit IS NOT NULL) AS pairs,
    sum(value_units(logit)) FILTER (paired) AS logit,
    sum(value_units(label_value)) FILTER (paired) AS label,
    sum(second_power(value_units(logit))) FILTER (paired) AS logit_squared,
    sum(second_power(value_units(label_value))) FILTER (paired) AS label_squared,
    sum(round(of_most(value_units(logit)) * of_most(value_units(label_value)) * $most)::HUGEINT) FILTER (paired)
        AS product,
    min(logit) FILTER (paired)::DOUBLE AS lowest_logit, max(logit) FILTER (paired)::DOUBLE AS greatest_logit,
    min(label_value) FILTER (paired) AS lowest_label, max(label_value) FILTER (paired) AS greatest_label,
    any_value(a.block_passes) AS block_passes, any_value(a.seconds) AS seconds
FROM (
    SELECT
        failure, truncated, in_statistics, correct, logit, label_value, failure IS NULL AND label_value IS NOT NULL AS paired
    FROM portion_documents
),
    (
        SELECT sum(block_passes)::BIGINT AS block_passes, sum(share_units(seconds::DOUBLE)) AS seconds
        FROM portion_attributed
    ) AS a
