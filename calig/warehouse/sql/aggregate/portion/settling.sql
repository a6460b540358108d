-- The depth after the last one, below L, at which the ranks do not agree. Short documents often have a
-- rank correlation of just 0.8: rounding in its last digits must not decide.
CREATE OR REPLACE TEMP TABLE portion_settling AS
SELECT
    doc_id,
    nullif(1 + coalesce(max(depth) FILTER (coalesce(round(rank_agreement, 9), -1) < 0.8), -1), $depths - 1)::INTEGER
        AS settling_depth
FROM portion_depths
WHERE depth < $depths - 1
GROUP BY doc_id;

INSERT INTO settling BY NAME
SELECT $run_id AS run_id, doc_id, settling_depth FROM portion_settling ORDER BY doc_id
