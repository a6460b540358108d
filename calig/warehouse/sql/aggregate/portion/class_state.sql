-- A class is labelled or predicted where it is the label or prediction or, with several to a document, among them.
-- Of a regression's outputs the explained one is labelled, and none is predicted.
INSERT INTO class_state BY NAME
WITH classes AS (
    SELECT unnest($classes::VARCHAR[]) AS class, unnest(range(len($classes))::INTEGER[]) AS class_id
),
roles AS (
    SELECT
        c.class, c.class_id, d.label, d.probability, CASE WHEN d.in_statistics THEN s.settling_depth END AS settling_depth,
        d.target_id = c.class_id AS explained,
        coalesce(
            d.label_id = c.class_id,
            list_contains(d.labels, c.class),
            d.label_value IS NOT NULL AND d.target_id = c.class_id
        ) AS labelled,
        coalesce(list_contains(d.predicted_labels, c.class), d.predicted_id = c.class_id) AS predicted
    FROM classes AS c
    LEFT JOIN explained AS d ON true
    LEFT JOIN portion_settling AS s ON s.doc_id = d.doc_id
)
SELECT
    class, class_id,
    count(*) FILTER (labelled) AS labelled,
    count(*) FILTER (predicted) AS predicted,
    count(*) FILTER (predicted AND label IS NOT NULL) AS predicted_labelled,
    count(*) FILTER (predicted AND labelled) AS correct,
    sum(share_units(probability::DOUBLE)) FILTER (explained) AS probability,
    count(probability) FILTER (explained) AS probability_known,
    sum(settling_depth) FILTER (explained)::BIGINT AS settling_depth,
    count(settling_depth) FILTER (explained) AS settled
FROM roles
GROUP BY class, class_id
