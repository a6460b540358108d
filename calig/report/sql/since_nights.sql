-- How many complete runs this audit has.
SELECT count(*) AS runs FROM runs WHERE name = (SELECT name FROM runs WHERE run_id = $run) AND status = 'complete';
