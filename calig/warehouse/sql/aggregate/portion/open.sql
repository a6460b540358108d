-- What several of the states are made from, read once: a portion's tokens and documents. The effect and score of a token are in whole units.
CREATE OR REPLACE TEMP TABLE portion_documents AS SELECT * FROM documents;
CREATE OR REPLACE TEMP VIEW documents AS SELECT * FROM portion_documents;
CREATE OR REPLACE TEMP VIEW explained AS SELECT * FROM portion_documents WHERE failure IS NULL;
-- Those whose explanations are as exact as was asked for: what is made of explanations is made of these.
CREATE OR REPLACE TEMP VIEW counted AS SELECT * FROM explained WHERE in_statistics;

CREATE OR REPLACE TEMP TABLE portion_attributed AS
SELECT * FROM ($attributed) AS a SEMI JOIN portion_rows AS d ON $shown;

CREATE OR REPLACE TEMP TABLE portion_tokens AS
SELECT * REPLACE (effect_units(logit_effect) AS logit_effect, score_units(score) AS score), score AS exact_score
FROM tokens;
CREATE OR REPLACE TEMP VIEW tokens AS SELECT * EXCLUDE (exact_score) FROM portion_tokens;
