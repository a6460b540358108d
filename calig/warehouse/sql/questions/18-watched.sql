-- How much of the relevance do the watched terms have? Whole lists and all classes (*) first, then the terms with the most
-- needs: lists of terms under watch in the audit's YAML
SELECT run_id, list, term, class, documents, occurrences, document_share, share, effect, effect_low, effect_high
FROM watched
ORDER BY run_id, list, term <> '*', class <> '*', share DESC, term, class
