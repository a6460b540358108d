"""What the gate `drift` could have seen: the smallest changes that a comparison finds with a power of 80 %.

A change is called one where its test comes out, and where it is as large as the configuration asks (`min_effect`,
`min_share`, `min_size`): the smallest that is found is what both let through.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy  # its parts are loaded where they are first used

from calig.comparison.power import (
    POWER,
    changes_detectable,
    flips_detectable,
    means_detectable,
    shares_detectable,
)
from calig.config import CompareConfig
from calig.gates.finding import Checked, Row
from calig.warehouse.catalog import quote
from calig.warehouse.gates import GateOutcome

SHARE = 0.05
"""The share of documents that hold the word of which it is said how much more frequent it would have to be."""


def with_sensitivity(
    checked: Checked, outcome: GateOutcome, comparison: Row, what: tuple[str, ...], compare: CompareConfig
) -> GateOutcome:
    """Say of a gate on a comparison's changes what it could not have seen, and at which level.

    Each test counts at the level of its family over the number of tests in it: that is the least that
    Benjamini-Hochberg asks of any of them. `detectable` is that of the accuracy, else of a regression's error.
    """
    if comparison["alpha"] is None:
        return outcome
    least: list[str] = []
    detectable: float | None = None
    if "outcomes" in what and comparison["outcomes_tested"]:
        detectable, text = _outcome(checked, _Comparison.of(comparison, "outcomes"), compare)
        least += [text] if text else []
    if "layers" in what and comparison["layers_tested"]:
        found = _layers(checked, _Comparison.of(comparison, "layers"), compare)
        least += [of_a_measure(found)] if found else []
    if "words" in what and comparison["words_tested"]:
        least += _words(checked, _Comparison.of(comparison, "words"), compare)
    if not least:
        return replace(outcome, level=comparison["alpha"])
    a, b = comparison["documents_a"], comparison["documents_b"]
    documents = f"{b} documents" if a == b else f"{a} and {b} documents"
    return replace(
        outcome,
        level=comparison["alpha"],
        detectable=detectable,
        cannot_see=f"a change {', '.join(least)}, with {documents}",
    )


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One family of a comparison: its table, with which reference, each test's level, whether documents are paired."""

    source: str
    level: float
    paired: bool
    documents: tuple[int, int]

    @classmethod
    def of(cls, row: Row, family: str) -> _Comparison:
        source = f"FROM comparison_{family} WHERE reference_id = {quote(row['reference_id'])}"
        level = row["alpha"] / 3 / row[f"{family}_tested"]
        return cls(source, level, bool(row["tests_paired"]), (row["documents_a"], row["documents_b"]))


def _outcome(checked: Checked, own: _Comparison, compare: CompareConfig) -> tuple[float | None, str]:
    """The smallest change of accuracy, or else of a regression's error, found; as a number and in words."""
    rows = checked.rows(
        f"SELECT * {own.source} AND measure IN ('accuracy', 'error') AND a IS NOT NULL AND b IS NOT NULL "
        "ORDER BY measure LIMIT 1"
    )
    if not rows:
        return None, ""
    [row] = rows
    if row["measure"] == "error":
        error = smallest_difference(row, own.level, own.paired)
        return error, "" if error is None else f"of the mean absolute error below {error:.2g}"
    found = (
        flips_detectable(row["documents_b"], own.level)
        if own.paired
        else shares_detectable(row["a"], row["documents_a"], row["documents_b"], own.level)
    )
    if not math.isfinite(found):
        return None, "of accuracy, however large"
    error_of_share = math.sqrt(row["a"] * (1 - row["a"]) * (1 / row["documents_a"] + 1 / row["documents_b"]))
    found = max(found, _above(compare.min_share, 0.0 if own.paired else error_of_share))
    return found, of_accuracy(found)


def _layers(checked: Checked, own: _Comparison, compare: CompareConfig) -> float | None:
    """The smallest change of a measure over all documents, in standard deviations over documents: their median."""
    rows = checked.rows(
        f"SELECT * {own.source} AND class = '*' AND p IS NOT NULL AND size <> 0 AND isfinite(size) AND difference <> 0"
    )
    found = []
    for row in rows:
        deviation = abs(row["difference"] / row["size"])
        one = smallest_difference(row, own.level, own.paired, compare.min_size * deviation)
        found += [] if one is None else [one / deviation]
    return float(np.median(found)) if found else None


def _words(checked: Checked, own: _Comparison, compare: CompareConfig) -> list[str]:
    """What could not be seen of words: of the effects of half of those tested, and of how often one stands."""
    rows = checked.rows(f"SELECT * {own.source} AND p IS NOT NULL")
    each = (smallest_difference(row, own.level, own.paired, compare.min_effect) for row in rows)
    found = [one for one in each if one is not None]
    said = []
    if found:
        said.append(
            f"of a word's effect below {np.median(found):.2g} logits (half of the {len(found)} words tested)"
        )
    if not own.paired and min(own.documents):
        rise = shares_detectable(SHARE, *own.documents, own.level)
        if math.isfinite(rise):
            rise = max(rise, compare.min_share)
            said.append(f"of a word in {SHARE:.0%} of the documents below a rise to {SHARE + rise:.0%}")
    return said


def of_accuracy(change: float) -> str:
    """What could not be seen of accuracy, in words."""
    return f"of accuracy below {math.ceil(100 * change - 1e-9)} points"


def of_a_measure(deviations: float) -> str:
    """What could not be seen of the layer profile, in words."""
    return f"of a measure of the layer profile below {deviations:.2g} standard deviations"


def smallest_difference(row: Row, level: float, paired: bool, least: float = 0.0) -> float | None:
    """The smallest difference of means that is found at a level with a power of 80 %, in the measure's own unit.

    Parameters
    ----------
    row
        Of a table comparison_*: `low` and `high`, the 95 % interval of the difference, and the numbers of documents.
    level
        Of the test.
    paired
        Whether documents are paired.
    least
        The smallest difference that is called a change.

    Returns
    -------
    None where there is no interval, or no difference would be found.
    """
    if row["low"] is None or row["high"] is None:
        return None
    a, b = row["documents_a"], row["documents_b"]
    freedom = (b if paired else a + b - 1) - 1
    if freedom < 1:
        return None
    error = (row["high"] - row["low"]) / 2 / float(scipy.stats.t.ppf(0.975, freedom))
    if not error or math.isnan(error):
        return None
    if paired:
        found = changes_detectable(error * math.sqrt(b), b, level)
    else:  # of two samples whose means differ by as much, by chance
        found = means_detectable(error / math.sqrt(1 / a + 1 / b), a, b, level)
    return max(found, _above(least, error)) if math.isfinite(found) else None


def _above(least: float, error: float) -> float:
    """The difference of which that of the samples, with its error, is at least `least` with a chance of `POWER`."""
    return least + float(scipy.stats.norm.ppf(POWER)) * error if least else 0.0
