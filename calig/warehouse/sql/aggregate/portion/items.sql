-- Of words, regions or watched terms, each once per document: sums over documents, and the effects of those in few.
CREATE OR REPLACE TEMP TABLE portion_items AS
SELECT
    class, item, count(*) AS documents,
    sum(effect) AS effect, sum(second_power(effect)) AS effect_squared, sum(third_power(effect)) AS effect_cubed,
    count(*) FILTER (effect > 0) AS positive, count(*) FILTER (effect < 0) AS negative,
    min(effect) AS lowest_effect, max(effect) AS greatest_effect,
    $sums
FROM ${kind}_documents
GROUP BY class, item;

INSERT INTO ${kind}_state BY NAME SELECT * FROM portion_items;

INSERT INTO ${kind}_few BY NAME
SELECT d.class, d.item, d.effect
FROM ${kind}_documents AS d
JOIN portion_items AS s ON s.class = d.class AND s.item = d.item
WHERE s.documents <= $few
