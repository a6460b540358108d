-- The tables of calig.duckdb. What they mean stands in catalog.toml, from which their comments are made.

CREATE TABLE runs (
    run_id VARCHAR, name VARCHAR, status VARCHAR, started TIMESTAMP, finished TIMESTAMP,
    model_id VARCHAR, model_revision VARCHAR, model_hash VARCHAR, head VARCHAR, modality VARCHAR,
    corpus_source VARCHAR, corpus_key VARCHAR,
    attribution_key VARCHAR, target VARCHAR, output VARCHAR,
    baseline VARCHAR, tolerance DOUBLE, fusion VARCHAR, weight DOUBLE, depths INTEGER, classes VARCHAR[],
    documents BIGINT, attributed BIGINT, reused BIGINT, failures BIGINT, truncated BIGINT,
    accuracy DOUBLE, mean_absolute_error DOUBLE, correlation DOUBLE, converged_share DOUBLE, worst_completeness_error DOUBLE, worst_error_estimate DOUBLE,
    block_passes BIGINT, attribution_seconds DOUBLE, own_block_passes BIGINT, own_seconds DOUBLE,
    config VARCHAR, versions VARCHAR, timings VARCHAR,
    -- since 0.1.0, and therefore last
    notes VARCHAR[], label_order VARCHAR[], label_order_accuracy DOUBLE, corpus_rows BIGINT, left_out BIGINT, left_out_files VARCHAR,
    unconverged BIGINT,
    format INTEGER, engine_version INTEGER, calig_version VARCHAR
);

CREATE TABLE document_depths (
    run_id VARCHAR, doc_id BIGINT, depth INTEGER, gross DOUBLE, net DOUBLE, cancellation DOUBLE,
    effective_tokens DOUBLE, special_share DOUBLE, rank_agreement DOUBLE, sign_agreement DOUBLE,
    context_ratio DOUBLE
);

CREATE TABLE layer_stats (
    run_id VARCHAR, class VARCHAR, depth INTEGER, documents BIGINT, cancellation DOUBLE,
    effective_tokens DOUBLE, special_share DOUBLE, rank_agreement DOUBLE, sign_agreement DOUBLE,
    context_ratio DOUBLE
);

CREATE TABLE settling (run_id VARCHAR, doc_id BIGINT, settling_depth INTEGER);

CREATE TABLE token_stats (
    run_id VARCHAR, class VARCHAR, token VARCHAR, documents BIGINT, occurrences BIGINT, effect DOUBLE, score DOUBLE
);

CREATE TABLE word_stats (
    run_id VARCHAR, class VARCHAR, word VARCHAR, documents BIGINT, occurrences BIGINT, effect DOUBLE,
    effect_low DOUBLE, effect_high DOUBLE, score DOUBLE, same_sign_share DOUBLE, example_for BIGINT,
    example_against BIGINT
);

CREATE TABLE document_maps (
    run_id VARCHAR, doc_id BIGINT, depth INTEGER, border_share DOUBLE, border_lift DOUBLE,
    centre_row DOUBLE, centre_column DOUBLE
);

CREATE TABLE region_stats (
    run_id VARCHAR, class VARCHAR, region VARCHAR, documents BIGINT, effect DOUBLE,
    effect_low DOUBLE, effect_high DOUBLE, share DOUBLE, area DOUBLE, lift DOUBLE, same_sign_share DOUBLE
);

CREATE TABLE patch_stats (
    run_id VARCHAR, class VARCHAR, grid_rows SMALLINT, grid_columns SMALLINT,
    patch_row SMALLINT, patch_column SMALLINT, documents BIGINT, effect DOUBLE, share DOUBLE
);

CREATE TABLE class_stats (
    run_id VARCHAR, class VARCHAR, class_id INTEGER, labelled BIGINT, predicted BIGINT, correct BIGINT,
    precision DOUBLE, recall DOUBLE, mean_probability DOUBLE, mean_settling_depth DOUBLE
);

CREATE TABLE completeness (
    run_id VARCHAR, depth INTEGER, documents BIGINT, converged BIGINT, median_error_estimate DOUBLE,
    worst_error_estimate DOUBLE, median_completeness_error DOUBLE, worst_completeness_error DOUBLE,
    mean_nodes DOUBLE, max_nodes INTEGER
);

CREATE TABLE failures (
    run_id VARCHAR, doc_id BIGINT, source_id VARCHAR, doc_key VARCHAR, reason VARCHAR, detail VARCHAR
);

CREATE TABLE watched (
    run_id VARCHAR, list VARCHAR, term VARCHAR, class VARCHAR, documents BIGINT, occurrences BIGINT,
    document_share DOUBLE, share DOUBLE, effect DOUBLE, effect_low DOUBLE, effect_high DOUBLE
);

CREATE TABLE gates (
    run_id VARCHAR, gate VARCHAR, severity VARCHAR, passed BOOLEAN, value DOUBLE, "limit" DOUBLE,
    reference_id VARCHAR, detail VARCHAR, documents BIGINT[], state VARCHAR, level DOUBLE, chance DOUBLE,
    detectable DOUBLE, cannot_see VARCHAR
);

CREATE TABLE comparisons (
    run_id VARCHAR, reference_id VARCHAR, requested VARCHAR, compared TIMESTAMP, same_model BOOLEAN, same_corpus BOOLEAN,
    documents_a BIGINT, documents_b BIGINT, paired BIGINT, explained_again BIGINT, left_out BIGINT,
    alpha DOUBLE, changed BOOLEAN, words_changed BIGINT, layers_changed BIGINT, outcomes_changed BIGINT,
    words_tested BIGINT, layers_tested BIGINT, outcomes_tested BIGINT,
    accuracy_a DOUBLE, accuracy_b DOUBLE, flips BIGINT, flip_share DOUBLE,
    class_psi DOUBLE, class_js DOUBLE, confidence_psi DOUBLE, confidence_js DOUBLE, layer_psi DOUBLE, verdict VARCHAR,
    text_changed BIGINT, only_a BIGINT, only_b BIGINT,
    words_untested BIGINT, layers_untested BIGINT, outcomes_untested BIGINT,
    psi_level DOUBLE, psi_draws BIGINT, class_psi_p DOUBLE, class_psi_by_chance DOUBLE,
    layer_psi_p DOUBLE, layer_psi_by_chance DOUBLE, tests_paired BOOLEAN,
    same_engine BOOLEAN, differences VARCHAR[]
);

CREATE TABLE comparison_outcomes (
    run_id VARCHAR, reference_id VARCHAR, measure VARCHAR, class VARCHAR, documents_a BIGINT, documents_b BIGINT,
    a DOUBLE, b DOUBLE, difference DOUBLE, low DOUBLE, high DOUBLE, p DOUBLE, q DOUBLE, changed BOOLEAN,
    state VARCHAR
);

CREATE TABLE comparison_layers (
    run_id VARCHAR, reference_id VARCHAR, class VARCHAR, depth INTEGER, measure VARCHAR,
    documents_a BIGINT, documents_b BIGINT, a DOUBLE, b DOUBLE, difference DOUBLE, low DOUBLE, high DOUBLE,
    size DOUBLE, psi DOUBLE, js DOUBLE, p DOUBLE, q DOUBLE, changed BOOLEAN, state VARCHAR
);

CREATE TABLE comparison_words (
    run_id VARCHAR, reference_id VARCHAR, class VARCHAR, word VARCHAR, documents_a BIGINT, documents_b BIGINT,
    share_a DOUBLE, share_b DOUBLE, share_p DOUBLE, share_q DOUBLE,
    effect_a DOUBLE, effect_b DOUBLE, difference DOUBLE, low DOUBLE, high DOUBLE, p DOUBLE, q DOUBLE,
    sign_flip BOOLEAN, flips BIGINT, change VARCHAR, changed BOOLEAN, state VARCHAR
);

CREATE TABLE comparison_documents (
    run_id VARCHAR, reference_id VARCHAR, doc_key VARCHAR, doc_id_a BIGINT, doc_id_b BIGINT, target VARCHAR,
    predicted_a VARCHAR, predicted_b VARCHAR, flipped BOOLEAN, probability_a DOUBLE, probability_b DOUBLE,
    logit_a DOUBLE, logit_b DOUBLE, rank_agreement DOUBLE, sign_flips DOUBLE, jensen_shannon DOUBLE,
    word VARCHAR, word_change DOUBLE, text_changed BOOLEAN
);

CREATE TABLE evaluations (
    evaluation_id VARCHAR, name VARCHAR, status VARCHAR, started TIMESTAMP, finished TIMESTAMP,
    model_id VARCHAR, model_revision VARCHAR, model_hash VARCHAR, head VARCHAR, modality VARCHAR,
    corpus_source VARCHAR, corpus_key VARCHAR, target VARCHAR, output VARCHAR, baseline VARCHAR,
    tolerance DOUBLE, fusion VARCHAR, weight DOUBLE, classes VARCHAR[], seed BIGINT, documents BIGINT, pairs BIGINT,
    failures BIGINT, passes DOUBLE, evaluation_seconds DOUBLE, config VARCHAR, versions VARCHAR, timings VARCHAR
);

CREATE TABLE evaluation (
    evaluation_id VARCHAR, doc_id BIGINT, method VARCHAR, metric VARCHAR, removal VARCHAR, share DOUBLE, value DOUBLE
);

CREATE TABLE evaluation_stats (
    evaluation_id VARCHAR, method VARCHAR, metric VARCHAR, removal VARCHAR, share DOUBLE, documents BIGINT,
    mean DOUBLE, low DOUBLE, high DOUBLE, difference DOUBLE, difference_low DOUBLE, difference_high DOUBLE,
    win_rate DOUBLE
);

CREATE TABLE evaluation_methods (
    evaluation_id VARCHAR, method VARCHAR, title VARCHAR, passes DOUBLE, seconds DOUBLE, refusal VARCHAR
);

CREATE TABLE evaluation_documents (
    evaluation_id VARCHAR, doc_id BIGINT, source_id VARCHAR, doc_key VARCHAR, words VARCHAR[], label VARCHAR,
    target VARCHAR, predicted VARCHAR, probability DOUBLE, disagreement DOUBLE, failure VARCHAR, failure_detail VARCHAR
);
