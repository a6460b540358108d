-- How many finished runs this audit has, this one included, which is finished once its report is there.
SELECT count(*) AS runs FROM runs WHERE name = (SELECT name FROM runs WHERE run_id = $run)
    AND (status IN ('complete', 'partial') OR run_id = $run);
