INSERT INTO layer_stats BY NAME
SELECT
    $run_id AS run_id,
    coalesce(d.target, '*') AS class,
    s.depth,
    count(*) AS documents,
    sum(s.gross) / nullif(sum(abs(s.net)), 0) AS cancellation,
    avg(s.effective_tokens) AS effective_tokens,
    avg(s.special_share) AS special_share,
    avg(s.rank_agreement) AS rank_agreement,
    avg(s.sign_agreement) AS sign_agreement,
    avg(s.context_ratio) AS context_ratio
FROM document_depths AS s
JOIN explained AS d ON d.doc_id = s.doc_id
WHERE s.run_id = $run_id
GROUP BY GROUPING SETS ((s.depth), (s.depth, d.target))
ORDER BY class, depth
