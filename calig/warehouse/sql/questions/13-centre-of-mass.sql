-- Where in the image does relevance lie, depth by depth? 0 is the top and left edge, 1 the bottom and right one
-- needs: a run on images
SELECT
    m.run_id, d.target AS class, m.depth, count(*) AS documents,
    avg(m.centre_row) AS centre_row, stddev_samp(m.centre_row) AS centre_row_spread,
    avg(m.centre_column) AS centre_column, stddev_samp(m.centre_column) AS centre_column_spread,
    avg(m.border_share) AS border_share, avg(m.border_lift) AS border_lift
FROM document_maps AS m
JOIN documents AS d ON d.run_id = m.run_id AND d.doc_id = m.doc_id
WHERE d.in_statistics
GROUP BY m.run_id, d.target, m.depth
ORDER BY m.run_id, class, m.depth NULLS LAST
