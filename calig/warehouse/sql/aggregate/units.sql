-- Whole units of effects, scores, values (outputs and labels) and shares, whose sums do not depend on their order.
-- (least and greatest pass over nulls.)
CREATE OR REPLACE TEMP MACRO whole(x, units) AS
    CASE WHEN x IS NOT NULL THEN greatest(-$most, least($most, round(x * units))) END::HUGEINT;
CREATE OR REPLACE TEMP MACRO effect_units(x) AS whole(x, $effect_units);
CREATE OR REPLACE TEMP MACRO score_units(x) AS whole(x, $score_units);
CREATE OR REPLACE TEMP MACRO value_units(x) AS whole(x, $value_units);
CREATE OR REPLACE TEMP MACRO share_units(x) AS whole(x, $share_units);
-- A whole number of units as a share of the most there can be, and the powers of it in units of their own.
CREATE OR REPLACE TEMP MACRO of_most(n) AS CASE WHEN n IS NOT NULL THEN greatest(-1, least(1, n::DOUBLE / $most)) END;
CREATE OR REPLACE TEMP MACRO second_power(n) AS round(of_most(n) * of_most(n) * $most)::HUGEINT;
CREATE OR REPLACE TEMP MACRO third_power(n) AS round(of_most(n) * of_most(n) * of_most(n) * $most)::HUGEINT;
-- The bin of a size, each about 1 % wide, and the middle of a bin; 0 has one of its own.
CREATE OR REPLACE TEMP MACRO size_bin(x) AS CASE WHEN x > 0 THEN floor(least(ln(x) / ln(1.01), 100000))::INTEGER WHEN x IS NOT NULL THEN -1000000 END;
CREATE OR REPLACE TEMP MACRO bin_size(bin) AS CASE WHEN bin = -1000000 THEN 0 ELSE exp((bin + 0.5) * ln(1.01)) END;
-- The share of documents whose effect has the sign of the sum of all.
CREATE OR REPLACE TEMP MACRO same_sign(effect, documents, positive, negative) AS
    CASE sign(effect) WHEN 1 THEN positive WHEN -1 THEN negative ELSE documents - positive - negative END / documents;
