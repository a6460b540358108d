INSERT INTO region_stats BY NAME
SELECT
    $run_id AS run_id, s.class, s.item AS region, s.documents,
    s.effect::DOUBLE / $effect_units / s.documents AS effect,
    i.effect_low, i.effect_high,
    s.share::DOUBLE / $share_units / nullif(s.share_known, 0) AS share,
    s.area::DOUBLE / $share_units / s.documents AS area,
    (s.share::DOUBLE / nullif(s.share_known, 0)) / (s.area::DOUBLE / s.documents) AS lift,
    same_sign(s.effect, s.documents, s.positive, s.negative) AS same_sign_share
FROM region_state AS s
LEFT JOIN region_intervals AS i ON i.class = s.class AND i.item = s.item
ORDER BY s.class, s.item
