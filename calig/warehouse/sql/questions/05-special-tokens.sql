-- Which share of the evidence sits on special tokens, by depth?
SELECT run_id, class, depth, special_share, documents
FROM layer_stats
WHERE run_id IN (SELECT run_id FROM documents)
ORDER BY run_id, class, depth
