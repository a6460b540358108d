-- Both runs' words (side 0 and 1) with the class that their documents count under, and the pair of those compared in one.
CREATE TEMP TABLE placed AS $placed;
CREATE TEMP TABLE effects AS
SELECT p.side, p.class, p.pair, i.word, i.effect, i.within
FROM placed AS p
JOIN (SELECT 0 AS side, * FROM a_items UNION ALL SELECT 1 AS side, * FROM b_items) AS i
    ON i.side = p.side AND i.doc_id = p.doc_id;
CREATE TEMP TABLE changes AS
SELECT a.class, a.pair, a.word, b.effect - a.effect AS change
FROM effects AS a
JOIN effects AS b ON b.pair = a.pair AND b.word = a.word
WHERE a.side = 0 AND b.side = 1
