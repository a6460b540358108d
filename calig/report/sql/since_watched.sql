-- Watched terms, lists as a whole first, and what they were in the reference; of long lists those with the largest share.
SELECT
    w.list, w.term, w.class, w.documents, w.document_share, w.share, w.effect, w.effect_low, w.effect_high,
    a.share AS share_before, a.effect AS effect_before
FROM watched w
LEFT JOIN watched a ON a.run_id = $reference AND a.list = w.list AND a.term = w.term AND a.class = w.class
WHERE w.run_id = $run
QUALIFY row_number() OVER (PARTITION BY w.list, w.class ORDER BY w.term <> '*', w.share DESC NULLS LAST, w.term) <= $terms
ORDER BY w.list, w.class <> '*', w.class, w.term <> '*', w.share DESC NULLS LAST, w.term
LIMIT $limit;
