-- Failures by reason, with the first few of each as examples.
WITH numbered AS (
    SELECT
        reason, source_id, detail,
        count(*) OVER (PARTITION BY reason) AS documents,
        row_number() OVER (PARTITION BY reason ORDER BY doc_id) AS place
    FROM failures
    WHERE run_id = $run
)
SELECT reason, documents, source_id, detail
FROM numbered
WHERE place <= $examples
ORDER BY documents DESC, reason, place;
