WITH totals AS (
    SELECT
        coalesce(class, '*') AS class,
        count(*) FILTER (side = 0)::DOUBLE AS of_a, count(*) FILTER (side = 1)::DOUBLE AS of_b
    FROM placed
    GROUP BY GROUPING SETS ((), (class))
),
held AS (
    SELECT
        coalesce(class, '*') AS class, word,
        count(*) FILTER (side = 0)::DOUBLE AS documents_a, count(*) FILTER (side = 1)::DOUBLE AS documents_b,
        avg(effect) FILTER (side = 0) AS mean_a, avg(effect) FILTER (side = 1) AS mean_b,
        var_samp(effect) FILTER (side = 0) AS variance_a, var_samp(effect) FILTER (side = 1) AS variance_b
    FROM effects
    GROUP BY GROUPING SETS ((word), (class, word))
    HAVING greatest(count(*) FILTER (side = 0), count(*) FILTER (side = 1)) >= $documents
),
changed AS (
    SELECT
        coalesce(class, '*') AS class, word, count(*)::DOUBLE AS pairs, avg(change) AS change,
        var_samp(change) AS variance
    FROM changes
    GROUP BY GROUPING SETS ((word), (class, word))
)
SELECT h.*, t.of_a, t.of_b, coalesce(c.pairs, 0) AS pairs, c.change, c.variance
FROM held AS h
JOIN totals AS t ON t.class = h.class
LEFT JOIN changed AS c ON c.class = h.class AND c.word = h.word
ORDER BY h.class, h.word
