-- The gates that the run was held to.
SELECT * FROM gates WHERE run_id = $run;
