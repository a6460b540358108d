INSERT INTO word_stats BY NAME
SELECT
    $run_id AS run_id, w.class, w.word,
    any_value(w.documents) AS documents,
    sum(w.occurrences)::BIGINT AS occurrences,
    any_value(i.effect) AS effect,
    any_value(i.effect_low) AS effect_low,
    any_value(i.effect_high) AS effect_high,
    avg(w.score) AS score,
    avg((sign(w.effect) = sign(i.effect))::INTEGER) AS same_sign_share
FROM word_documents AS w
JOIN word_intervals AS i ON i.class = w.class AND i.item = w.word
GROUP BY w.class, w.word
ORDER BY w.class, w.word
