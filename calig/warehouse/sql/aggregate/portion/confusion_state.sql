-- Documents of one label by label and prediction.
INSERT INTO confusion_state BY NAME
SELECT label_id, predicted_id, count(*) AS documents
FROM explained
WHERE label_id IS NOT NULL AND predicted_id IS NOT NULL
GROUP BY label_id, predicted_id
