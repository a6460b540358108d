INSERT INTO token_stats BY NAME
SELECT
    $run_id AS run_id, class, token, documents, occurrences,
    effect::DOUBLE / $effect_units / occurrences AS effect,
    score::DOUBLE / $score_units / occurrences AS score
FROM token_state
ORDER BY class, token
