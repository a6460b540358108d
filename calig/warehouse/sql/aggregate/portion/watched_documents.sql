-- The tokens that each place of a watched term overlaps; a place that the model did not read has none.
CREATE OR REPLACE TEMP TABLE watched_tokens AS
SELECT w.list, w.term, p.doc_id, p.segment, p.char_start, p.char_end, t.position, t.logit_effect
FROM watch_places AS p
JOIN watch_terms AS w ON w.number = p.number
JOIN tokens AS t
    ON t.doc_id = p.doc_id AND coalesce(t.segment, 0) = p.segment
    AND t.char_start < p.char_end AND t.char_end > p.char_start
WHERE NOT t.is_special;

-- A term, or list (*), once per document that holds it, under its explained class and under all (*): a token counts once.
CREATE OR REPLACE TEMP TABLE watched_documents AS
WITH named AS (
    SELECT * EXCLUDE (term), unnest([term, '*']) AS term FROM watched_tokens
),
places AS (
    SELECT list, term, doc_id, count(*) AS occurrences
    FROM (SELECT DISTINCT list, term, doc_id, segment, char_start, char_end FROM named)
    GROUP BY list, term, doc_id
),
sums AS (
    SELECT list, term, doc_id, sum(logit_effect) AS effect, sum(abs(logit_effect)) AS gross
    FROM (SELECT DISTINCT list, term, doc_id, position, logit_effect FROM named)
    GROUP BY list, term, doc_id
)
SELECT
    unnest([d.target, '*']) AS class, list || chr(31) || term AS item, doc_id, occurrences, effect, gross
FROM places
JOIN sums USING (list, term, doc_id)
JOIN counted AS d USING (doc_id);

-- Of each class, and of all (*): counted documents, and all the relevance of their content.
INSERT INTO total_state BY NAME
SELECT class, count(*) AS documents, sum(gross) AS gross
FROM (
    SELECT unnest([d.target, '*']) AS class, d.doc_id, t.gross
    FROM counted AS d
    LEFT JOIN (
        SELECT doc_id, sum(abs(logit_effect)) AS gross FROM tokens WHERE NOT is_special GROUP BY doc_id
    ) AS t ON t.doc_id = d.doc_id
)
GROUP BY class
