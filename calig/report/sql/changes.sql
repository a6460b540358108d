-- The comparison of a run with a reference.
SELECT
    run_id, reference_id, requested, compared, same_model, same_corpus, documents_a, documents_b, paired, tests_paired,
    text_changed, only_a, only_b, explained_again, left_out,
    alpha, changed, words_changed, layers_changed, outcomes_changed, words_tested, layers_tested, outcomes_tested,
    words_untested, layers_untested, outcomes_untested,
    accuracy_a, accuracy_b, flips, flip_share, class_psi, class_js, confidence_psi, confidence_js, layer_psi, psi_draws,
    class_psi_by_chance, layer_psi_by_chance, verdict, differences
FROM comparisons
WHERE run_id = $run AND reference_id = $reference;
