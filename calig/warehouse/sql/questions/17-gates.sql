-- Which gates hold, and which do not? Those that do not first
-- needs: gates in the audit's YAML
SELECT run_id, gate, severity, passed, state, value, "limit", reference_id, detail
FROM gates
ORDER BY run_id, passed NULLS LAST, severity, gate, reference_id
