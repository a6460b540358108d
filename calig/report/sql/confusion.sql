-- Documents per pair of labelled and predicted class.
SELECT label, predicted, count(*) AS documents
FROM documents
WHERE run_id = $run AND failure IS NULL AND label IS NOT NULL
GROUP BY label, predicted;
