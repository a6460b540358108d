SELECT
    $run_id AS run_id, d.doc_id, d.doc_key, t.position, t.token::VARCHAR AS token,
    $own,
    $columns,
    $effect AS logit_effect,
    $score AS score
FROM ($tokens) AS t
JOIN (SELECT doc_key, target, $scales FROM ($documents) WHERE failure IS NULL) AS a ON a.doc_key = t.doc_key AND $of_class
JOIN $run_documents AS d ON $shown
$words
