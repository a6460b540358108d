-- One run's explained documents. `copy` numbers the documents of one content; confidence is that of the prediction.
CREATE TEMP TABLE ${side}_documents AS
SELECT
    doc_id, doc_key, row_number() OVER (PARTITION BY doc_key ORDER BY doc_id) AS copy, target, predicted,
    correct::DOUBLE AS correct, probability::DOUBLE AS probability, logit::DOUBLE AS logit, label_value,
    coalesce(labels, CASE WHEN label_id IS NOT NULL THEN [label] END) AS labels,
    completeness_error::DOUBLE AS completeness_error, settling_depth::DOUBLE AS settling_depth,
    CASE $head
        WHEN 'regression' THEN NULL
        WHEN 'multi_label' THEN 1 / (1 + exp(-list_max(logits)::DOUBLE))
        ELSE 1 / list_sum(list_transform(logits, lambda x: exp(x::DOUBLE - list_max(logits)::DOUBLE)))
    END AS confidence
FROM documents
WHERE failure IS NULL
