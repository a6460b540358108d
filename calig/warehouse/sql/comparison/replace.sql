-- What run b explains again, for the reference's class, takes the place of what it explained itself.
DELETE FROM b_items WHERE doc_id IN (SELECT doc_id FROM again_documents);
DELETE FROM b_depths WHERE doc_id IN (SELECT doc_id FROM again_documents);
INSERT INTO b_items BY NAME SELECT * FROM again_items;
INSERT INTO b_depths BY NAME SELECT * FROM again_depths;
UPDATE b_documents SET
    target = a.target, probability = a.probability, logit = a.logit, settling_depth = a.settling_depth,
    in_statistics = a.in_statistics
FROM again_documents AS a
WHERE a.doc_id = b_documents.doc_id;
