-- The layer profiles of the two runs, and where they differ.
SELECT class, depth, measure, documents_a, documents_b, a, b, difference, low, high, size, psi, p, q, coalesce(changed, false) AS changed, state
FROM comparison_layers
WHERE run_id = $run AND reference_id = $reference
    AND a IS NOT NULL AND b IS NOT NULL  -- too few documents of a class have no numbers
ORDER BY class <> '*', class, measure, depth;
