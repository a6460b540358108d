-- One metric's values on every document, a mean over shares where it has such.
SELECT doc_id, method, value FROM evaluation
WHERE evaluation_id = $evaluation AND metric = $metric AND removal IS NOT DISTINCT FROM $removal
    AND share IS NULL AND value IS NOT NULL AND NOT isnan(value)
ORDER BY doc_id;
