-- The complete runs of an audit, oldest first.
SELECT * FROM runs WHERE name = $name AND status IN ('complete', 'partial') ORDER BY started, run_id;
