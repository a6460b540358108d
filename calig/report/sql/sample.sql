-- Candidates for the documents worth reading: the first of each kind, best first; of a regression, errors are
-- distances from the label, and the typical is told by its value, as it has no probability. Sums are rounded before they
-- rank, since their last digits depend on the order of summation.
WITH explained AS (
    SELECT
        doc_id, target, correct, probability, error_estimate, tokens, logit, in_statistics,
        round(abs(logit - label_value), 6) AS missed_by
    FROM documents
    WHERE run_id = $run AND failure IS NULL
),
effects AS (  -- of the words of a text where each stands, or of the patches of an image
    SELECT doc_id, logit_effect AS effect
    FROM words
    WHERE run_id = $run
    UNION ALL
    SELECT doc_id, logit_effect
    FROM patches
    WHERE run_id = $run
),
mass AS (
    SELECT
        doc_id,
        count(*) AS items,
        round(max(abs(effect)) / sum(abs(effect)), 6) AS largest,
        round(sum(greatest(-effect, 0)) / sum(abs(effect)), 6) AS against
    FROM effects
    WHERE doc_id IN (SELECT doc_id FROM explained WHERE in_statistics)
    GROUP BY doc_id
    HAVING sum(abs(effect)) > 0
),
spread AS (
    SELECT
        e.doc_id,
        e.target,
        abs(percent_rank() OVER (PARTITION BY e.target ORDER BY coalesce(e.probability, e.logit)) - 0.5)
        + abs(percent_rank() OVER (PARTITION BY e.target ORDER BY e.tokens) - 0.5)
        + abs(percent_rank() OVER (PARTITION BY e.target ORDER BY m.largest) - 0.5) AS distance
    FROM explained AS e
    JOIN mass AS m USING (doc_id)
    WHERE e.correct IS NOT FALSE
),
candidates AS (
    SELECT 'error' AS kind, doc_id, probability AS rank, probability AS weight FROM explained WHERE NOT correct
    UNION ALL
    SELECT 'error', doc_id, missed_by, missed_by FROM explained WHERE missed_by > 0
    UNION ALL
    SELECT 'one_word', doc_id, largest, largest FROM mass WHERE items >= 5
    UNION ALL
    SELECT 'against', doc_id, against, against FROM mass WHERE items >= 5
    UNION ALL
    SELECT 'typical', doc_id, -row_number() OVER (PARTITION BY target ORDER BY round(distance, 6), doc_id), distance FROM spread
    UNION ALL
    SELECT 'unconverged', doc_id, error_estimate, error_estimate FROM explained
),
numbered AS (
    SELECT *, row_number() OVER (PARTITION BY kind ORDER BY rank DESC, doc_id) AS place FROM candidates
)
SELECT kind, doc_id, weight
FROM numbered
WHERE place <= $limit
ORDER BY kind, place;
