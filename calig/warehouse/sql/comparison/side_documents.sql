-- One run's explained documents. `id` is what the corpus calls them, where that is known and no other document has it;
-- `content` is the same of documents that hold the same, whatever their labels; confidence is that of the prediction.
CREATE TEMP TABLE ${side}_documents AS
SELECT
    doc_id, doc_key, CASE WHEN $given AND count(*) OVER (PARTITION BY source_id) = 1 THEN source_id END AS id,
    $content AS content, target, predicted,
    coalesce(predicted_labels, CASE WHEN predicted IS NOT NULL THEN [predicted] END) AS predicted_classes,
    correct::DOUBLE AS correct, probability::DOUBLE AS probability, logit::DOUBLE AS logit, label_value,
    coalesce(labels, CASE WHEN label_id IS NOT NULL THEN [label] END) AS labels,
    completeness_error::DOUBLE AS completeness_error, in_statistics,
    CASE WHEN in_statistics THEN settling_depth::DOUBLE END AS settling_depth,
    CASE $head
        WHEN 'regression' THEN NULL
        WHEN 'multi_label' THEN 1 / (1 + exp(-list_max(logits)::DOUBLE))
        ELSE 1 / list_sum(list_transform(logits, lambda x: exp(x::DOUBLE - list_max(logits)::DOUBLE)))
    END AS confidence
FROM documents
-- not WHERE: an id that a failed document has too is one of two
QUALIFY failure IS NULL
