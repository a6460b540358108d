-- Partial states: one row per portion and key, or one per key once merged. Columns of a key come first; of all others,
-- those that begin with lowest or greatest are merged by min and max, the rest by addition. Sums are in whole units.
CREATE OR REPLACE TEMP TABLE layer_state (
    class VARCHAR, depth INTEGER, documents BIGINT, gross HUGEINT, net HUGEINT,
    effective_tokens HUGEINT, effective_tokens_known BIGINT, special_share HUGEINT, special_share_known BIGINT,
    rank_agreement HUGEINT, rank_agreement_known BIGINT, sign_agreement HUGEINT, sign_agreement_known BIGINT,
    context_ratio HUGEINT, context_ratio_known BIGINT
);
CREATE OR REPLACE TEMP TABLE token_state (
    class VARCHAR, token VARCHAR, documents BIGINT, occurrences BIGINT, effect HUGEINT, score HUGEINT
);
CREATE OR REPLACE TEMP TABLE word_state (
    class VARCHAR, item VARCHAR, documents BIGINT, effect HUGEINT, effect_squared HUGEINT, effect_cubed HUGEINT,
    positive BIGINT, negative BIGINT, lowest_effect HUGEINT, greatest_effect HUGEINT,
    occurrences BIGINT, score HUGEINT,
    lowest_example STRUCT(effect HUGEINT, doc_id BIGINT), greatest_example STRUCT(effect HUGEINT, minus_doc_id BIGINT)
);
CREATE OR REPLACE TEMP TABLE region_state (
    class VARCHAR, item VARCHAR, documents BIGINT, effect HUGEINT, effect_squared HUGEINT, effect_cubed HUGEINT,
    positive BIGINT, negative BIGINT, lowest_effect HUGEINT, greatest_effect HUGEINT,
    share HUGEINT, share_known BIGINT, area HUGEINT
);
CREATE OR REPLACE TEMP TABLE watched_state (
    class VARCHAR, item VARCHAR, documents BIGINT, effect HUGEINT, effect_squared HUGEINT, effect_cubed HUGEINT,
    positive BIGINT, negative BIGINT, lowest_effect HUGEINT, greatest_effect HUGEINT,
    occurrences BIGINT, gross HUGEINT
);
CREATE OR REPLACE TEMP TABLE total_state (class VARCHAR, documents BIGINT, gross HUGEINT);
CREATE OR REPLACE TEMP TABLE patch_state (
    class VARCHAR, grid_rows SMALLINT, grid_columns SMALLINT, patch_row SMALLINT, patch_column SMALLINT,
    documents BIGINT, effect HUGEINT, share HUGEINT, share_known BIGINT
);
CREATE OR REPLACE TEMP TABLE class_state (
    class VARCHAR, class_id INTEGER, labelled BIGINT, predicted BIGINT, predicted_labelled BIGINT, correct BIGINT,
    probability HUGEINT, probability_known BIGINT, settling_depth BIGINT, settled BIGINT
);
CREATE OR REPLACE TEMP TABLE confusion_state (label_id INTEGER, predicted_id INTEGER, documents BIGINT);
CREATE OR REPLACE TEMP TABLE depth_state (
    depth INTEGER, documents BIGINT, converged BIGINT, converged_known BIGINT, nodes BIGINT, nodes_known BIGINT,
    greatest_nodes INTEGER, greatest_error_estimate DOUBLE, greatest_completeness_error DOUBLE
);
CREATE OR REPLACE TEMP TABLE error_state (depth INTEGER, measure VARCHAR, bin INTEGER, documents BIGINT);
CREATE OR REPLACE TEMP TABLE run_state (
    run_id VARCHAR, documents BIGINT, failures BIGINT, truncated BIGINT, unconverged BIGINT, correct BIGINT, correct_known BIGINT,
    missed_by HUGEINT, pairs BIGINT, logit HUGEINT, label HUGEINT, logit_squared HUGEINT, label_squared HUGEINT,
    product HUGEINT, lowest_logit DOUBLE, greatest_logit DOUBLE, lowest_label DOUBLE, greatest_label DOUBLE,
    block_passes BIGINT, seconds HUGEINT
);
-- The effects themselves of what few documents hold, from which its intervals are made.
CREATE OR REPLACE TEMP TABLE word_few (class VARCHAR, item VARCHAR, effect HUGEINT);
CREATE OR REPLACE TEMP TABLE region_few (class VARCHAR, item VARCHAR, effect HUGEINT);
CREATE OR REPLACE TEMP TABLE watched_few (class VARCHAR, item VARCHAR, effect HUGEINT);
