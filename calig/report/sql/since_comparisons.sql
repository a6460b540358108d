-- What the run was compared with: the run before it first. Where the reference is still there, when it started.
SELECT
    c.reference_id, c.requested, c.changed, c.words_changed, c.layers_changed, c.outcomes_changed, c.flips, c.verdict, c.differences,
    (SELECT r.started FROM runs r WHERE r.run_id = c.reference_id) AS started
FROM comparisons c
WHERE c.run_id = $run
ORDER BY coalesce(list_contains(string_split(c.requested, ', '), 'previous'), false) DESC, c.requested, c.reference_id;
