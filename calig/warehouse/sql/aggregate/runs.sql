INSERT INTO runs BY NAME
SELECT
    m.*,
    (SELECT count(*) FROM documents) AS documents,
    (SELECT count(*) FROM documents WHERE failure IS NOT NULL) AS failures,
    (SELECT count(*) FROM explained WHERE truncated) AS truncated,
    (SELECT avg(correct::INTEGER) FROM explained) AS accuracy,
    (SELECT avg(abs(logit - label_value)) FROM explained) AS mean_absolute_error,
    (
        SELECT CASE WHEN min(logit) < max(logit) AND min(label_value) < max(label_value)
            THEN corr(logit, label_value) END
        FROM explained WHERE label_value IS NOT NULL
    ) AS correlation,
    (SELECT avg(converged::INTEGER) FROM quadrature) AS converged_share,
    (SELECT max(completeness_error) FROM quadrature) AS worst_completeness_error,
    (SELECT max(error_estimate) FROM quadrature) AS worst_error_estimate,
    c.block_passes, c.attribution_seconds
FROM manifest AS m,
    (
        SELECT sum(block_passes)::BIGINT AS block_passes, sum(seconds::DOUBLE) AS attribution_seconds
        FROM attributed
        WHERE doc_key IN (SELECT doc_key FROM documents)
    ) AS c
