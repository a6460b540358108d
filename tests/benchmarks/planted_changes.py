"""Are planted changes found as often as an audit says it would find them?

    python -m tests.benchmarks.planted_changes WAREHOUSE [--pairs 60]

The warehouse holds one complete run of texts with labels, the pool of `quiet_nights`. Levels are those of an audit with
the gate `drift` and one false alarm a year. Each pair of nights is compared as it is: that says what the gate could
just see in this very pair. Then the second night gets a change of half of that, of that, and of twice that, each alone:
the effect of one word is raised (of those tested the one with the median of what could just be seen); documents that
are predicted right become wrong; of some documents one depth's layer profile is put in the place of the next one's. And
accuracy falls by 5 points.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import scipy

from calig.comparison.layers import MEASURES
from calig.comparison.power import POWER, shares_detectable
from calig.config import parse_config
from calig.config.levels import levels_of
from calig.gates.sensitivity import smallest_difference
from tests.benchmarks.quiet_nights import Pool

RESULTS = Path(__file__).parent / "results" / "planted_changes.md"
SIZES = (100, 400, 1600)
"""Documents of a night."""
FACTORS = (0.5, 1.0, 2.0)
"""Planted changes, in what the gate says that it could just see."""
Row = dict[str, Any]
Plant = Callable[[duckdb.DuckDBPyConnection, np.random.Generator], None]

AUDIT = parse_config(
    {"model": {"id": "m"}, "corpus": {"path": "c"}, "compare_to": ["previous"], "gates": {"drift": True}}
)
LEVELS, COMPARE = levels_of(AUDIT), AUDIT.compare


@dataclass(frozen=True)
class Change:
    """A change to plant in a pair of nights.

    Attributes
    ----------
    kind
        What it is, without its size.
    file, row
        The table of the comparison, and the row of it, that has to find it.
    size, just
        The planted difference, and the smallest that the gate says it could see, in one unit.
    tests
        Tests in the family.
    plant
        Makes it.
    """

    kind: str
    file: str
    row: Row
    size: float
    just: float
    tests: int
    plant: Plant

    @property
    def predicted(self) -> float:
        """The chance to find it, by the normal distribution: a power of 80 % at `just`."""
        critical = scipy.stats.norm.isf(LEVELS.comparison / 3 / self.tests / 2)
        return float(
            scipy.stats.norm.cdf(self.size / self.just * (critical + scipy.stats.norm.ppf(POWER)) - critical)
        )


def rows_of(columns: dict[str, Any]) -> list[Row]:
    """Columns as rows, NaN as None."""
    return [
        {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in zip(columns, values, strict=True)
        }
        for values in zip(*columns.values(), strict=True)
    ]


def accuracies(found: dict[str, Any], size: int) -> list[Change]:
    """Documents predicted right become wrong: as many as the gate could just see, half, twice, and 5 points."""
    [total] = rows_of(found["comparisons"])
    [row] = [row for row in rows_of(found["outcomes"]) if row["measure"] == "accuracy"]
    level = LEVELS.comparison / 3 / total["outcomes_tested"]
    just = shares_detectable(row["a"], size, size, level)

    def falling(points: float) -> Plant:
        def plant(connection: duckdb.DuckDBPyConnection, rng: np.random.Generator) -> None:
            right = connection.sql("SELECT doc_id FROM b_documents WHERE correct = 1").fetchnumpy()["doc_id"]
            wrong = rng.choice(right, min(len(right), round(points * size)), replace=False)
            connection.execute(
                "UPDATE b_documents SET correct = 0 WHERE list_contains(?::BIGINT[], doc_id)",
                [wrong.tolist()],
            )

        return plant

    if not math.isfinite(just):
        return []
    place = {"measure": "accuracy", "class": "*"}
    sizes = [("accuracy lower by 5 points", 0.05)] + [
        (f"accuracy lower, {factor:g} times", factor * just) for factor in FACTORS
    ]
    return [
        Change(kind, "outcomes", place, points, just, total["outcomes_tested"], falling(points))
        for kind, points in sizes
        if points < row["b"]
    ]


def effects(found: dict[str, Any]) -> list[Change]:
    """The effect of a word: of those tested the one whose smallest difference that is seen is the median."""
    [total] = rows_of(found["comparisons"])
    level = LEVELS.comparison / 3 / total["words_tested"]
    seen = sorted(
        (just, row["word"], row["class"])
        for row in rows_of(found["words"])
        if row["p"] is not None
        and (just := smallest_difference(row, level, False, COMPARE.min_effect)) is not None
    )
    if not seen:
        return []
    just, word, name = seen[len(seen) // 2]

    def raised(by: float) -> Plant:
        def plant(connection: duckdb.DuckDBPyConnection, rng: np.random.Generator) -> None:
            connection.execute(
                "UPDATE b_items SET effect = effect + ? WHERE word = ? "
                "AND doc_id IN (SELECT doc_id FROM b_documents WHERE target = ?)",
                [by, word, name],
            )

        return plant

    return [
        Change(
            f"effect of a word higher, {factor:g} times",
            "words",
            {"word": word, "class": name},
            factor * just,
            just,
            total["words_tested"],
            raised(factor * just),
        )
        for factor in FACTORS
    ]


def layers(found: dict[str, Any]) -> list[Change]:
    """One measure at depth 1 in some of the documents as it is at depth 2: a half, all, and all twice over."""
    [total] = rows_of(found["comparisons"])
    level = LEVELS.comparison / 3 / total["layers_tested"]
    rows = {(row["measure"], row["depth"]): row for row in rows_of(found["layers"]) if row["class"] == "*"}
    shifts = {}
    for measure in MEASURES:
        row = rows.get((measure, 1))
        if row is None or (measure, 2) not in rows or not row["size"]:
            continue
        deviation = abs(row["difference"] / row["size"])
        just = smallest_difference(row, level, False, COMPARE.min_size * deviation)
        if just is not None:
            shifts[measure] = abs(rows[measure, 2]["b"] - row["b"]), just
    measure = max(shifts, key=lambda name: shifts[name][0] / shifts[name][1])
    whole, just = shifts[measure]

    def shuffled(share: float) -> Plant:
        def plant(connection: duckdb.DuckDBPyConnection, rng: np.random.Generator) -> None:
            ids = connection.sql("SELECT doc_id FROM b_documents").fetchnumpy()["doc_id"]
            chosen = rng.choice(ids, round(share * len(ids)), replace=False)
            connection.execute(
                f"UPDATE b_depths SET {measure} = other.{measure} FROM "
                f"(SELECT doc_id, {measure} FROM b_depths WHERE depth = 2) AS other WHERE b_depths.depth = 1 "
                "AND other.doc_id = b_depths.doc_id AND list_contains(?::BIGINT[], b_depths.doc_id)",
                [chosen.tolist()],
            )

        return plant

    place = {"measure": measure, "class": "*", "depth": 1}
    return [
        Change(
            f"one depth's {measure.replace('_', ' ')} in the place of another's, {factor:g} times",
            "layers",
            place,
            factor * just,
            just,
            total["layers_tested"],
            shuffled(factor * just / whole),
        )
        for factor in FACTORS
        if factor * just < whole
    ]


def measured(pool: Pool, size: int, pairs: int) -> list[str]:
    """Rows of the table: in how many pairs of nights of so many documents each change is found."""
    rng = np.random.default_rng(size)
    found: dict[str, list[tuple[bool, Change]]] = {}
    for _ in range(pairs):
        chosen = rng.choice(pool.documents, 2 * size, replace=False)
        nights = chosen[:size], chosen[size:]
        quiet = pool.compared(*nights, LEVELS)
        for change in (*accuracies(quiet, size), *effects(quiet), *layers(quiet)):
            rows = rows_of(pool.compared(*nights, LEVELS, partial(change.plant, rng=rng))[change.file])
            seen = any(row["changed"] for row in rows if change.row.items() <= row.items())
            found.setdefault(change.kind, []).append((seen, change))
    written = []
    for kind, outcomes in found.items():
        count, of = sum(seen for seen, _ in outcomes), len(outcomes)
        interval = scipy.stats.binomtest(count, of).proportion_ci()
        predicted = np.mean([change.predicted for _, change in outcomes])
        sizes = np.median([change.size for _, change in outcomes])
        written.append(
            f"| {kind} | {size} | {sizes:.3g} | {of} | {predicted:.0%} | "
            f"{count / of:.0%} [{interval.low:.0%}, {interval.high:.0%}] |"
        )
        print(written[-1], flush=True)
    return written


def main() -> None:
    """Plant the changes, print and write how many are found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("warehouse", type=Path)
    parser.add_argument("--pairs", type=int, default=60)
    asked = parser.parse_args()
    pool = Pool(asked.warehouse)
    rows = [row for size in SIZES for row in measured(pool, size, asked.pairs)]
    RESULTS.write_text(
        "# Planted changes: found as often as an audit says\n\n"
        f"{date.today()}, `python -m tests.benchmarks.planted_changes WAREHOUSE --pairs {asked.pairs}` (see its first "
        f"lines). Pool: {len(pool.documents)} documents of {Path(pool.run.model['id']).name}. Level of the "
        f"comparison: {LEVELS.comparison:.5f} a night, one false alarm a year. Sizes are those planted (median), in "
        "shares of documents, logits and the measure's own unit; the pairs are those in which the change could be seen "
        "and planted.\n\n"
        "| planted, times what could just be seen | documents | size | pairs | predicted | found, 95 % interval |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
