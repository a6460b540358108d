-- Documents that both runs explain. Those of which b explains another class than a are not comparable.
CREATE OR REPLACE TEMP TABLE pairs AS
SELECT
    row_number() OVER (ORDER BY a.doc_id) - 1 AS pair, a.doc_id AS a_id, b.doc_id AS b_id, a.doc_key,
    a.target AS class, a.target = b.target AS comparable
FROM a_documents AS a
JOIN b_documents AS b ON b.doc_key = a.doc_key AND b.copy = a.copy
