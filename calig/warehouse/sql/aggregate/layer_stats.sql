INSERT INTO layer_stats BY NAME
SELECT
    $run_id AS run_id,
    coalesce(class, '*') AS class,
    depth,
    sum(documents)::BIGINT AS documents,
    sum(gross)::DOUBLE / nullif(sum(net)::DOUBLE, 0) AS cancellation,
    sum(effective_tokens)::DOUBLE / $share_units / nullif(sum(effective_tokens_known), 0) AS effective_tokens,
    sum(special_share)::DOUBLE / $share_units / nullif(sum(special_share_known), 0) AS special_share,
    sum(rank_agreement)::DOUBLE / $share_units / nullif(sum(rank_agreement_known), 0) AS rank_agreement,
    sum(sign_agreement)::DOUBLE / $share_units / nullif(sum(sign_agreement_known), 0) AS sign_agreement,
    sum(context_ratio)::DOUBLE / $share_units / nullif(sum(context_ratio_known), 0) AS context_ratio
FROM layer_state
GROUP BY GROUPING SETS ((depth), (depth, class))
ORDER BY class, depth
