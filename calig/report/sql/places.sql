-- Where relevance sits at every depth (null: the final score), per explained class and over all images ('*').
SELECT
    coalesce(d.target, '*') AS class, m.depth,
    avg(m.border_share) AS border_share,
    avg(m.border_share / nullif(m.border_lift, 0)) AS border_area,
    avg(m.centre_row) AS centre_row,
    avg(m.centre_column) AS centre_column
FROM document_maps AS m
JOIN documents AS d ON d.doc_id = m.doc_id AND d.run_id = m.run_id
WHERE m.run_id = $run AND d.in_statistics
GROUP BY GROUPING SETS ((d.target, m.depth), (m.depth))
ORDER BY class, m.depth NULLS LAST;
