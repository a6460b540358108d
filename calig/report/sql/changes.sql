-- The comparison of a run with a reference.
SELECT
    run_id, reference_id, requested, compared, same_model, same_corpus, documents_a, documents_b, paired, explained_again, left_out,
    alpha, changed, words_changed, layers_changed, outcomes_changed, words_tested, layers_tested, outcomes_tested,
    accuracy_a, accuracy_b, flips, flip_share, class_psi, class_js, confidence_psi, confidence_js, layer_psi, verdict
FROM comparisons
WHERE run_id = $run AND reference_id = $reference;
