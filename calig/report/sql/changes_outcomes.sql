-- Outcomes, all documents before classes.
SELECT measure, class, documents_a, documents_b, a, b, difference, low, high, p, q, coalesce(changed, false) AS changed, state
FROM comparison_outcomes
WHERE run_id = $run AND reference_id = $reference
ORDER BY class <> '*', measure, class;
