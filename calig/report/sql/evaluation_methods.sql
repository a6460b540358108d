-- The methods, what they cost per document, and why some did not apply.
SELECT method, title, passes, seconds, refusal FROM evaluation_methods WHERE evaluation_id = $evaluation ORDER BY method;
