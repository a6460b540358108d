-- The layer profiles of the two runs, and where they differ.
SELECT class, depth, measure, documents_a, documents_b, a, b, difference, low, high, size, psi, p, q, coalesce(changed, false) AS changed
FROM comparison_layers
WHERE run_id = $run AND reference_id = $reference
ORDER BY class <> '*', class, measure, depth;
