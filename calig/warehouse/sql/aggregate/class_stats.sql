INSERT INTO class_stats BY NAME
WITH classes AS (
    SELECT unnest($classes::VARCHAR[]) AS class, unnest(range(len($classes))::INTEGER[]) AS class_id
),
roles AS (
    SELECT
        c.class, c.class_id,
        count(*) FILTER (d.label_id = c.class_id) AS labelled,
        count(*) FILTER (d.predicted_id = c.class_id) AS predicted,
        count(*) FILTER (d.predicted_id = c.class_id AND d.label_id IS NOT NULL) AS predicted_labelled,
        count(*) FILTER (d.predicted_id = c.class_id AND d.correct) AS correct,
        avg(d.probability) FILTER (d.target_id = c.class_id) AS mean_probability,
        avg(s.settling_depth) FILTER (d.target_id = c.class_id) AS mean_settling_depth
    FROM classes AS c
    LEFT JOIN explained AS d ON c.class_id IN (d.label_id, d.predicted_id, d.target_id)
    LEFT JOIN settling AS s ON s.run_id = $run_id AND s.doc_id = d.doc_id
    GROUP BY c.class, c.class_id
)
SELECT
    $run_id AS run_id, class, class_id, labelled, predicted, correct,
    correct / nullif(predicted_labelled, 0) AS precision,
    correct / nullif(labelled, 0) AS recall,
    mean_probability, mean_settling_depth
FROM roles
ORDER BY class_id
