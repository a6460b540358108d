-- The evaluation's row.
SELECT * FROM evaluations WHERE evaluation_id = $evaluation;
