"""What follows from merged sums of powers: intervals of means, and a correlation.

Sums are of whole numbers, of which MOST stand for 1. Products of sums are taken in Python's integers, so that no more
is lost where they cancel; only then do they become floating-point numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

import duckdb
import numpy as np
import pyarrow as pa

from calig.bootstrap import LEAST, Doubles, expanded_intervals, mean_intervals
from calig.warehouse.portions import BITS
from calig.warehouse.states import FEW

MOST = 2**BITS
BATCH = 4_000_000
"""Effects held at once for resampling."""
ROUNDING = 2.0**-50
"""A variance that is a smaller share of the squared mean is rounding of the powers, which are of doubles."""
NARROW = 2.0**-12
"""Numbers that spread by a smaller share of their mean, or by few units of their third power, have no skewness."""
SCHEMA = pa.schema(
    [
        ("class", pa.string()),
        ("item", pa.string()),
        ("effect_low", pa.float64()),
        ("effect_high", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Mean, standard deviation (divided by n) and skewness of some numbers from -1 to 1."""

    mean: float
    deviation: float
    skewness: float

    @classmethod
    def of(cls, count: int, first: int, second: int, third: int) -> Shape:
        """Of `count` numbers whose powers have these sums, in units of 1 / MOST."""
        mean = first / (count * MOST)
        variance = (count * second * MOST - first * first) / (count * MOST) ** 2
        if variance <= ROUNDING * mean * mean:
            return cls(mean, 0.0, 0.0)
        deviation = sqrt(variance)
        skewness = 0.0
        if deviation > NARROW * abs(mean) and deviation**3 * MOST > 1 / NARROW:
            cubed = count * count * third * MOST * MOST - 3 * count * first * second * MOST + 2 * first**3
            skewness = cubed / (count * MOST) ** 3 / deviation**3
        bound = sqrt(count)  # of any sample
        return cls(mean, deviation, max(-bound, min(bound, skewness)))


def intervals(connection: duckdb.DuckDBPyConnection, kind: str, unit: float, least: int) -> pa.Table:
    """Return the 95 % intervals of the mean effects of words, regions or watched terms (`kind`) over documents.

    Those in FEW documents or less are made by resampling, the others from moments (see `calig.bootstrap`).

    Parameters
    ----------
    connection
        Has the merged tables <kind>_state and <kind>_few.
    kind
        Of what.
    unit
        How many whole units of effect make a logit.
    least
        What fewer documents hold is left out.
    """
    return pa.concat_tables([_of_few(connection, kind, unit, least), _of_many(connection, kind, unit, least)])


def _of_many(connection: duckdb.DuckDBPyConnection, kind: str, unit: float, least: int) -> pa.Table:
    rows = connection.execute(
        "SELECT class, item, documents, effect, effect_squared, effect_cubed, lowest_effect, greatest_effect "
        f"FROM {kind}_state WHERE documents > {FEW} AND documents >= {least} ORDER BY class, item"
    ).fetchall()
    if not rows:
        return SCHEMA.empty_table()
    classes, items, counts, *sums, lowest, greatest = zip(*rows, strict=True)
    shapes = [Shape.of(*row) for row in zip(counts, *sums, strict=True)]
    found = expanded_intervals(
        np.array(counts, np.float64),
        np.array([shape.mean for shape in shapes]),
        np.array([shape.deviation for shape in shapes]),
        np.array([shape.skewness for shape in shapes]),
    )
    bounds = np.array([lowest, greatest], np.float64)[:, :, None] / MOST
    ends = np.clip(found, *bounds) * (MOST / unit)
    return _table(classes, items, ends)


def _of_few(connection: duckdb.DuckDBPyConnection, kind: str, unit: float, least: int) -> pa.Table:
    tables = [SCHEMA.empty_table()]
    sizes = connection.execute(
        f"SELECT documents, count(*) FROM {kind}_state WHERE documents BETWEEN {least} AND {FEW} "
        "GROUP BY documents ORDER BY documents"
    ).fetchall()
    for size, items in sizes:
        step = max(1, BATCH // size)
        for start in range(0, items, step):
            tables.append(_resampled(connection, kind, unit, size, start, step))
    return pa.concat_tables(tables)


def _resampled(
    connection: duckdb.DuckDBPyConnection, kind: str, unit: float, size: int, start: int, step: int
) -> pa.Table:
    """Resample the effects, in rising order, of some of the items that `size` documents hold."""
    rows = connection.sql(
        f"SELECT s.class, s.item, list(f.effect ORDER BY f.effect)::DOUBLE[] AS effects FROM ("
        f"SELECT class, item FROM {kind}_state WHERE documents = {size} "
        f"ORDER BY class, item LIMIT {step} OFFSET {start}) AS s "
        f"JOIN {kind}_few AS f ON f.class = s.class AND f.item = s.item "
        "GROUP BY s.class, s.item ORDER BY s.class, s.item"
    ).to_arrow_table()
    effects = rows["effects"].combine_chunks().flatten().to_numpy() / unit
    return _table(rows["class"], rows["item"], mean_intervals(effects.reshape(-1, size)))


def _table(classes: Iterable[object], items: Iterable[object], ends: Doubles) -> pa.Table:
    low, high = ends.T
    columns = (classes, items, np.ascontiguousarray(low), np.ascontiguousarray(high))
    arrays = [
        column if isinstance(column, pa.ChunkedArray) else pa.array(column, field.type)
        for column, field in zip(columns, SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def correlation(connection: duckdb.DuckDBPyConnection) -> float | None:
    """Pearson correlation of outputs and labels of the merged `run_state`.

    None where either is constant, or of fewer than `LEAST` documents: of two it is 1 or −1 whatever they are.
    """
    [(count, logit, label, logits, labels, product, varied)] = connection.execute(
        "SELECT pairs, logit, label, logit_squared, label_squared, product, "
        "lowest_logit < greatest_logit AND lowest_label < greatest_label FROM run_state"
    ).fetchall()
    if not varied or count < LEAST:
        return None
    spreads = (count * logits * MOST - logit * logit) * (count * labels * MOST - label * label)
    if spreads <= 0:
        return None
    return float(max(-1.0, min(1.0, (count * product * MOST - logit * label) / sqrt(spreads))))
