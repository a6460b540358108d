-- What each run was compared with.
SELECT
    c.run_id, c.reference_id, coalesce(c.requested, c.reference_id) AS requested, coalesce(c.changed, false) AS changed,
    c.words_changed, c.layers_changed, c.outcomes_changed, c.class_psi, c.layer_psi, c.verdict
FROM comparisons c
JOIN runs r ON r.run_id = c.run_id
WHERE r.name = $name AND r.status = 'complete'
ORDER BY c.requested IS DISTINCT FROM 'previous', c.requested, c.reference_id;
