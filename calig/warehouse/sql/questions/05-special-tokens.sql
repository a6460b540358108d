-- Which share of the evidence sits on special tokens, by depth?
SELECT class, depth, special_share, documents
FROM layer_stats
WHERE run_id = (SELECT any_value(run_id) FROM documents)
ORDER BY class, depth
