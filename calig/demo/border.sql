-- Where on an image is the evidence for "seven", and where is it in images wrongly called seven?
-- A digit fills the middle: a corner with many times its share of the area, at work in the errors, is a shortcut.
SELECT
    region,
    round(any_value(s.effect), 2) AS effect,
    round(avg(p.effect) FILTER (NOT correct), 2) AS effect_where_wrong,
    count(*) FILTER (NOT correct) AS wrong,
    round(any_value(s.share), 2) AS share,
    round(any_value(s.area), 2) AS area,
    round(any_value(s.lift), 2) AS lift
FROM region_stats s
JOIN (
    SELECT run_id, doc_id, region, sum(logit_effect) AS effect FROM patches GROUP BY ALL
    UNION ALL
    SELECT run_id, doc_id, 'border', sum(logit_effect) FROM patches WHERE border GROUP BY ALL
) p USING (run_id, region)
JOIN documents USING (run_id, doc_id)
WHERE s.class = 'seven' AND target = 'seven'
GROUP BY region
ORDER BY any_value(s.lift) DESC
