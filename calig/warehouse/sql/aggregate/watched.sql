INSERT INTO watched BY NAME
WITH terms AS (
    SELECT number, list, term FROM watch_terms
    UNION ALL
    SELECT min(number) - 0.5, list, '*' FROM watch_terms GROUP BY list
)
SELECT
    $run_id AS run_id, t.list, t.term, c.class,
    coalesce(s.documents, 0) AS documents,
    coalesce(s.occurrences, 0) AS occurrences,
    coalesce(s.documents, 0) / c.documents AS document_share,
    coalesce(s.gross, 0)::DOUBLE / nullif(c.gross, 0)::DOUBLE AS share,
    s.effect::DOUBLE / $effect_units / s.documents AS effect, i.effect_low, i.effect_high
FROM terms AS t
CROSS JOIN total_state AS c
LEFT JOIN watched_state AS s ON s.class = c.class AND s.item = t.list || chr(31) || t.term
LEFT JOIN watched_intervals AS i ON i.class = c.class AND i.item = t.list || chr(31) || t.term
ORDER BY t.number, c.class
