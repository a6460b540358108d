-- What several of the tables are made from, read once: the run's tokens, and its explained documents.
CREATE TEMP TABLE run_tokens AS SELECT * FROM tokens ORDER BY doc_id, position;
CREATE OR REPLACE TEMP VIEW tokens AS SELECT * FROM run_tokens;

CREATE TEMP TABLE attributed AS $attributed;

CREATE TEMP VIEW explained AS SELECT * FROM documents WHERE failure IS NULL;

CREATE TEMP VIEW quadrature AS
SELECT
    d.doc_id,
    unnest(range($depths))::INTEGER AS depth,
    unnest(a.error_estimate)::DOUBLE AS error_estimate,
    unnest(a.completeness_error)::DOUBLE AS completeness_error,
    unnest(a.converged) AS converged,
    unnest(a.nodes) AS nodes
FROM explained AS d
JOIN attributed AS a ON a.doc_key = d.doc_key;

-- A word once per document and explained class, in words that at least 5 documents of the class hold.
CREATE TEMP TABLE word_documents AS
SELECT *, count(*) OVER (PARTITION BY class, word) AS documents
FROM (
    SELECT
        d.target AS class, w.word, w.doc_id, count(*) AS occurrences,
        sum(w.logit_effect) AS effect, sum(w.score) AS score
    FROM words AS w
    JOIN explained AS d ON d.doc_id = w.doc_id
    WHERE w.word <> ''
    GROUP BY d.target, w.word, w.doc_id
)
QUALIFY documents >= 5;

-- A region of an image once per document: the nine that thirds of height and width make, and the border, which overlaps them.
CREATE TEMP TABLE region_documents AS
WITH placed AS (
    SELECT
        doc_id, region, border, logit_effect,
        sum(abs(logit_effect)) OVER (PARTITION BY doc_id) AS gross,
        count(*) OVER (PARTITION BY doc_id) AS patches
    FROM patches
),
regions AS (
    SELECT doc_id, region, logit_effect, gross, patches FROM placed
    UNION ALL
    SELECT doc_id, 'border', logit_effect, gross, patches FROM placed WHERE border
)
SELECT *, count(*) OVER (PARTITION BY class, region) AS documents
FROM (
    SELECT
        d.target AS class, r.region, r.doc_id,
        sum(r.logit_effect) AS effect,
        sum(abs(r.logit_effect)) / nullif(any_value(r.gross), 0) AS share,
        count(*) / any_value(r.patches) AS area
    FROM regions AS r
    JOIN explained AS d ON d.doc_id = r.doc_id
    GROUP BY d.target, r.region, r.doc_id
);
