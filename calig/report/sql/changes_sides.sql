-- What is known of the two runs; the reference may be gone.
SELECT run_id, name, started, model_id, model_hash, head, modality, corpus_source, corpus_key, documents, failures, accuracy, mean_absolute_error, depths, config
FROM runs
WHERE run_id IN ($run, $reference);
