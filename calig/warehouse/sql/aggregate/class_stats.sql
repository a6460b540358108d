-- A class is labelled or predicted where it is the label or prediction or, with several to a document, among them.
-- Of a regression's outputs the explained one is labelled, and none is predicted.
INSERT INTO class_stats BY NAME
WITH classes AS (
    SELECT unnest($classes::VARCHAR[]) AS class, unnest(range(len($classes))::INTEGER[]) AS class_id
),
roles AS (
    SELECT
        c.class, c.class_id, d.label, d.probability, s.settling_depth,
        d.target_id = c.class_id AS explained,
        coalesce(
            d.label_id = c.class_id,
            list_contains(d.labels, c.class),
            d.label_value IS NOT NULL AND d.target_id = c.class_id
        ) AS labelled,
        coalesce(list_contains(d.predicted_labels, c.class), d.predicted_id = c.class_id) AS predicted
    FROM classes AS c
    LEFT JOIN explained AS d ON true
    LEFT JOIN settling AS s ON s.run_id = $run_id AND s.doc_id = d.doc_id
),
counts AS (
    SELECT
        class, class_id,
        count(*) FILTER (labelled) AS labelled,
        count(*) FILTER (predicted) AS predicted,
        count(*) FILTER (predicted AND label IS NOT NULL) AS predicted_labelled,
        count(*) FILTER (predicted AND labelled) AS correct,
        avg(probability) FILTER (explained) AS mean_probability,
        avg(settling_depth) FILTER (explained) AS mean_settling_depth
    FROM roles
    GROUP BY class, class_id
)
SELECT
    $run_id AS run_id, class, class_id, labelled,
    CASE WHEN $head <> 'regression' THEN predicted END AS predicted,
    CASE WHEN $head <> 'regression' THEN correct END AS correct,
    correct / nullif(predicted_labelled, 0) AS precision,
    CASE WHEN $head <> 'regression' THEN correct / nullif(labelled, 0) END AS recall,
    mean_probability, mean_settling_depth
FROM counts
ORDER BY class_id
