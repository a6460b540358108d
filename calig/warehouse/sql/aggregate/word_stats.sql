INSERT INTO word_stats BY NAME
SELECT
    $run_id AS run_id, s.class, s.item AS word, s.documents, s.occurrences,
    s.effect::DOUBLE / $effect_units / s.documents AS effect,
    i.effect_low, i.effect_high,
    s.score::DOUBLE / $score_units / s.documents AS score,
    same_sign(s.effect, s.documents, s.positive, s.negative) AS same_sign_share,
    if(s.greatest_example.effect > 0, -s.greatest_example.minus_doc_id, NULL) AS example_for,
    if(s.lowest_example.effect < 0, s.lowest_example.doc_id, NULL) AS example_against
FROM word_state AS s
JOIN word_intervals AS i ON i.class = s.class AND i.item = s.item
ORDER BY s.class, s.item
