-- One row per document and depth. Ranks are, twice, mean ranks: first rank + last rank of equal values.
INSERT INTO document_depths BY NAME
WITH scored AS (
    SELECT
        *,
        rank() OVER by_score + round(cume_dist() OVER by_score * count(*) OVER content) AS score_rank
    FROM tokens
    WINDOW
        content AS (PARTITION BY doc_id, is_special),
        by_score AS (PARTITION BY doc_id, is_special ORDER BY score)
),
long AS (
    SELECT
        doc_id, is_special, sign(score) AS score_sign, score_rank,
        unnest(range($depths))::UTINYINT AS depth,
        unnest([$ig]) AS ig,
        unnest([NULL::FLOAT, $ctx])::DOUBLE AS ctx
    FROM scored
),
shapes AS (
    SELECT
        doc_id, depth,
        sum(abs(ig::DOUBLE)) AS gross,
        sum(ig::DOUBLE) AS net,
        -sum(CASE WHEN ig <> 0 THEN abs(ig::DOUBLE) * ln(abs(ig::DOUBLE)) END) AS surprise,
        coalesce(sum(abs(ig::DOUBLE)) FILTER (is_special), 0) AS special,
        avg((sign(ig) = score_sign)::INTEGER) FILTER (NOT is_special) AS sign_agreement,
        abs(sum(ctx)) / nullif(sum(abs(ctx)), 0) AS context_ratio
    FROM long
    GROUP BY doc_id, depth
),
ranks AS (
    SELECT
        doc_id, depth, score_rank,
        rank() OVER by_ig + round(cume_dist() OVER by_ig * count(*) OVER content) AS ig_rank
    FROM long
    WHERE NOT is_special
    WINDOW
        content AS (PARTITION BY doc_id, depth),
        by_ig AS (PARTITION BY doc_id, depth ORDER BY ig)
),
agreements AS (
    SELECT
        doc_id, depth,
        CASE WHEN min(ig_rank) < max(ig_rank) AND min(score_rank) < max(score_rank)
            THEN least(1, greatest(-1, corr(ig_rank, score_rank))) END AS rank_agreement
    FROM ranks
    GROUP BY doc_id, depth
)
SELECT
    $run_id AS run_id, doc_id, depth::INTEGER AS depth, gross, net,
    gross / nullif(abs(net), 0) AS cancellation,
    CASE WHEN gross > 0 THEN exp(coalesce(surprise, 0) / gross + ln(gross)) END AS effective_tokens,
    special / nullif(gross, 0) AS special_share,
    rank_agreement, sign_agreement, context_ratio
FROM shapes
LEFT JOIN agreements USING (doc_id, depth)
ORDER BY doc_id, depth
