-- Of each run its gates.
SELECT g.run_id, g.gate, g.severity, g.passed, g.value, g."limit", g.reference_id, g.detail, g.state, g.level, g.chance, g.cannot_see
FROM gates g
JOIN runs r ON r.run_id = g.run_id
WHERE r.name = $name AND r.status IN ('complete', 'partial')
ORDER BY g.gate, g.reference_id;
