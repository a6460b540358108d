-- One row: what the verdict and the pointers under it count.
SELECT
    count(*) FILTER (WHERE failure IS NULL) AS explained,
    count(*) FILTER (WHERE failure IS NULL AND converged) AS converged,
    count(*) FILTER (WHERE label IS NOT NULL AND failure IS NULL) AS labelled,
    count(*) FILTER (WHERE NOT correct) AS errors,
    count(*) FILTER (WHERE NOT correct AND probability >= $confident) AS confident_errors,
    max(abs(logit - label_value)) AS largest_error,
    sum(tokens) AS tokens,
    median(tokens) AS median_tokens,
    max(tokens) AS max_tokens
FROM documents
WHERE run_id = $run;
