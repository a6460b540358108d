-- What each run was compared with; a row per name where several, as previous and a tag, named one run.
SELECT
    c.run_id, c.reference_id, n.requested, coalesce(c.changed, false) AS changed,
    c.words_changed, c.layers_changed, c.outcomes_changed, c.class_psi, c.layer_psi, c.verdict
FROM comparisons c
JOIN runs r ON r.run_id = c.run_id
CROSS JOIN unnest(string_split(coalesce(c.requested, c.reference_id), ', ')) AS n(requested)
WHERE r.name = $name AND r.status IN ('complete', 'partial')
ORDER BY n.requested <> 'previous', n.requested, c.reference_id;
