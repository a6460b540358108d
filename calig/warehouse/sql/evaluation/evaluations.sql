INSERT INTO evaluations BY NAME
SELECT
    m.*,
    (SELECT count(*) FROM evaluated_documents WHERE doc_id >= 0) AS documents,
    (SELECT count(*) FROM evaluated_documents WHERE doc_id < 0) AS pairs,
    (SELECT count(*) FROM evaluated_documents WHERE failure IS NOT NULL) AS failures,
    (SELECT sum(passes) FROM evaluated_scores) AS passes
FROM manifest AS m
