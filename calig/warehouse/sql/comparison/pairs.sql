-- Documents that both runs explain, by content; of one content those of one id first, then in the order of their rows.
-- Those of which b explains another class than a are not comparable; those that are outside the tolerance in either run are
-- not exact, and left out of words and layers.
CREATE OR REPLACE TEMP TABLE pairs AS
WITH of_one_id AS (
    SELECT a.doc_id AS a_id, b.doc_id AS b_id
    FROM a_documents AS a
    JOIN b_documents AS b ON b.id = a.id AND b.content = a.content
),
rest_a AS (
    SELECT doc_id, content, row_number() OVER (PARTITION BY content ORDER BY doc_id) AS copy
    FROM a_documents
    WHERE doc_id NOT IN (SELECT a_id FROM of_one_id)
),
rest_b AS (
    SELECT doc_id, content, row_number() OVER (PARTITION BY content ORDER BY doc_id) AS copy
    FROM b_documents
    WHERE doc_id NOT IN (SELECT b_id FROM of_one_id)
),
found AS (
    FROM of_one_id
    UNION ALL
    SELECT a.doc_id, b.doc_id FROM rest_a AS a JOIN rest_b AS b ON b.content = a.content AND b.copy = a.copy
)
SELECT
    row_number() OVER (ORDER BY a.doc_id) - 1 AS pair, a.doc_id AS a_id, b.doc_id AS b_id, b.doc_key,
    a.target AS class, a.target = b.target AS comparable, a.in_statistics AND b.in_statistics AS exact
FROM found AS f
JOIN a_documents AS a ON a.doc_id = f.a_id
JOIN b_documents AS b ON b.doc_id = f.b_id;
-- Documents of one id whose content changed, neither of which has a partner of its own content.
CREATE OR REPLACE TEMP TABLE edited AS
SELECT a.doc_id AS a_id, b.doc_id AS b_id, b.doc_key, a.target AS class, a.target = b.target AS comparable
FROM a_documents AS a
JOIN b_documents AS b ON b.id = a.id
WHERE a.doc_id NOT IN (SELECT a_id FROM pairs) AND b.doc_id NOT IN (SELECT b_id FROM pairs)
