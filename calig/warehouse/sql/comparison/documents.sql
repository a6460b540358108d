-- One row per pair. Of documents of one content: how far the effects of their words agree; ranks are, twice, mean ranks, as
-- in document_depths. What is not explained for one class, or not of one text, is null.
WITH words AS (
    SELECT
        a.pair, a.word, a.effect AS a, b.effect AS b,
        abs(a.effect) / nullif(sum(abs(a.effect)) OVER content, 0) AS p,
        abs(b.effect) / nullif(sum(abs(b.effect)) OVER content, 0) AS q,
        rank() OVER by_a + round(cume_dist() OVER by_a * count(*) OVER content) AS rank_a,
        rank() OVER by_b + round(cume_dist() OVER by_b * count(*) OVER content) AS rank_b
    FROM effects AS a
    JOIN effects AS b ON b.pair = a.pair AND b.word = a.word
    WHERE a.side = 0 AND b.side = 1 AND NOT a.within
    WINDOW
        content AS (PARTITION BY a.pair),
        by_a AS (PARTITION BY a.pair ORDER BY a.effect),
        by_b AS (PARTITION BY a.pair ORDER BY b.effect)
),
agreement AS (
    SELECT
        pair,
        CASE WHEN min(rank_a) < max(rank_a) AND min(rank_b) < max(rank_b)
            THEN least(1, greatest(-1, corr(rank_a, rank_b))) END AS rank_agreement,
        coalesce(sum(abs(a) + abs(b)) FILTER (sign(a) * sign(b) < 0), 0) / nullif(sum(abs(a) + abs(b)), 0)
            AS sign_flips,
        -- rounding may leave a divergence of 0 a little below it
        greatest(0, sum(
            CASE WHEN p > 0 THEN p * log2(2 * p / (p + q)) ELSE 0 END
            + CASE WHEN q > 0 THEN q * log2(2 * q / (p + q)) ELSE 0 END
        ) / 2) AS jensen_shannon,
        arg_max(word, (abs(b - a), word)) AS word,
        arg_max(b - a, (abs(b - a), word)) AS word_change
    FROM words
    GROUP BY pair
),
all_pairs AS (
    SELECT pair, a_id, b_id, doc_key, class, comparable, false AS text_changed FROM pairs
    UNION ALL
    SELECT NULL, a_id, b_id, doc_key, class, comparable, true FROM edited
)
SELECT
    p.doc_key, p.a_id AS doc_id_a, p.b_id AS doc_id_b, p.class AS target,
    a.predicted AS predicted_a, b.predicted AS predicted_b, a.predicted <> b.predicted AS flipped,
    a.probability AS probability_a, CASE WHEN p.comparable THEN b.probability END AS probability_b,
    a.logit AS logit_a, CASE WHEN p.comparable THEN b.logit END AS logit_b,
    g.rank_agreement, g.sign_flips, g.jensen_shannon, g.word, g.word_change, p.text_changed
FROM all_pairs AS p
JOIN a_documents AS a ON a.doc_id = p.a_id
JOIN b_documents AS b ON b.doc_id = p.b_id
LEFT JOIN agreement AS g ON g.pair = p.pair
ORDER BY p.text_changed, a.doc_id
