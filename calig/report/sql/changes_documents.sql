-- Pairs of documents: those whose prediction changed, then those whose evidence moved most; those whose text changed last.
SELECT
    doc_key, doc_id_a, doc_id_b, target, predicted_a, predicted_b, coalesce(flipped, false) AS flipped,
    probability_a, probability_b, logit_a, logit_b, rank_agreement, sign_flips, jensen_shannon, word, word_change,
    coalesce(text_changed, false) AS text_changed
FROM comparison_documents
WHERE run_id = $run AND reference_id = $reference
QUALIFY row_number() OVER (
    PARTITION BY coalesce(flipped, false), coalesce(text_changed, false)
    ORDER BY
        CASE WHEN coalesce(flipped, false) THEN abs(word_change) ELSE jensen_shannon END DESC NULLS LAST, doc_id_b
) <= $limit
ORDER BY
    coalesce(text_changed, false), coalesce(flipped, false) DESC,
    CASE WHEN coalesce(flipped, false) THEN abs(word_change) ELSE jensen_shannon END DESC NULLS LAST, doc_id_b;
