INSERT INTO region_stats BY NAME
SELECT
    $run_id AS run_id, r.class, r.region,
    any_value(r.documents) AS documents,
    any_value(i.effect) AS effect,
    any_value(i.effect_low) AS effect_low,
    any_value(i.effect_high) AS effect_high,
    avg(r.share) AS share,
    avg(r.area) AS area,
    avg(r.share) / avg(r.area) AS lift,
    avg((sign(r.effect) = sign(i.effect))::INTEGER) AS same_sign_share
FROM region_documents AS r
JOIN region_intervals AS i ON i.class = r.class AND i.item = r.region
GROUP BY r.class, r.region
ORDER BY r.class, r.region
