"""How often a run in which nothing changed crosses a plain limit by chance, at its number of documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import scipy  # its parts are loaded where they are first used

from calig.config.levels import CHANCE_GATES
from calig.gates.finding import Checked, Row
from calig.warehouse.gates import GateOutcome
from calig.warehouse.runs import IS_FINISHED

NIGHTS = 60
"""Earlier runs that say what a quiet run is like, the newest ones."""
FEWEST = 8
"""Earlier values of a gate from which its spread from run to run is known well enough."""


def with_chance(checked: Checked, outcomes: Sequence[GateOutcome]) -> list[GateOutcome]:
    """Say of each plain limit how likely a run like the audit's earlier ones, with as many documents, is to cross it.

    Counts of documents (failed, predicted right) follow the binomial distribution with the share that they have in the
    earlier runs together, or, before there are any, in this run. Other numbers vary from run to run as they did in the
    earlier runs: the chance is that of Student's t for one further value. None where that is not known, and of gates
    that allow for chance themselves.
    """
    [run] = checked.rows("SELECT * FROM runs WHERE run_id = ?", checked.run_id)
    earlier = checked.rows(
        f"SELECT * FROM runs WHERE name = ? AND {IS_FINISHED} AND (started, run_id) < (?, ?) "
        f"ORDER BY started DESC LIMIT {NIGHTS}",
        *(run[name] for name in ("name", "started", "run_id")),
    )
    found = []
    for outcome in outcomes:
        if outcome.value is not None and outcome.limit is not None and outcome.gate not in CHANCE_GATES:
            counted = _COUNTED.get(outcome.gate)
            chance = (
                _as_before(checked, earlier, outcome)
                if counted is None
                else counted(checked, run, earlier, outcome)
            )
            outcome = replace(outcome, chance=chance)
        found.append(outcome)
    return found


def _failures(_checked: Checked, run: Row, earlier: list[Row], outcome: GateOutcome) -> float | None:
    share = _pooled([(row["failures"], row["documents"]) for row in earlier or [run]])
    if share is None or not run["documents"]:
        return None
    return float(scipy.stats.binom.sf(_most(outcome.limit, run["documents"]), run["documents"], share))


def _accuracy(checked: Checked, run: Row, earlier: list[Row], outcome: GateOutcome) -> float | None:
    labelled = _labelled(checked)
    share = _accuracy_before(run, earlier)
    if share is None or not labelled:
        return None
    least = int(np.ceil(_exact(outcome.limit * labelled)))  # type: ignore[operator]
    return float(scipy.stats.binom.cdf(least - 1, labelled, share))


def _accuracy_drop(checked: Checked, run: Row, earlier: list[Row], outcome: GateOutcome) -> float | None:
    rows = checked.rows(
        "SELECT documents_a, documents_b FROM comparison_outcomes WHERE reference_id = ? AND measure = 'accuracy' "
        "AND documents_a > 0 AND documents_b > 0",
        outcome.reference_id,
    )
    share = _accuracy_before(run, earlier)
    if not rows or share is None:
        return None
    if _same_documents(checked, outcome):
        return 0.0
    of_a, of_b = rows[0]["documents_a"], rows[0]["documents_b"]
    right = np.arange(of_a + 1)
    # the most that b may have where the drop is above the limit
    most = np.ceil(_exact(of_b * (right / of_a - outcome.limit))) - 1
    return float((scipy.stats.binom.pmf(right, of_a, share) * scipy.stats.binom.cdf(most, of_b, share)).sum())


def _flips(_checked: Checked, _run: Row, _earlier: list[Row], _outcome: GateOutcome) -> float:
    return 0.0  # the same model predicts the same of the same document


_COUNTED: dict[str, Callable[[Checked, Row, list[Row], GateOutcome], float | None]] = {
    "max_failure_share": _failures,
    "min_accuracy": _accuracy,
    "max_accuracy_drop": _accuracy_drop,
    "max_flip_share": _flips,
}


def _as_before(checked: Checked, earlier: list[Row], outcome: GateOutcome) -> float | None:
    """The chance of Student's t that one further value like the gate's earlier ones is beyond the limit."""
    rows = checked.rows(
        "SELECT value FROM gates WHERE gate = ? AND value IS NOT NULL AND list_contains(?::VARCHAR[], run_id)",
        outcome.gate,
        [row["run_id"] for row in earlier],
    )
    values = np.array([row["value"] for row in rows])
    if len(values) < FEWEST or outcome.limit is None:
        return None
    beyond = outcome.limit - values.mean()
    if outcome.gate.startswith("min_"):
        beyond = -beyond
    spread = values.std(ddof=1) * np.sqrt(1 + 1 / len(values))
    if not spread:
        return float(beyond < 0)
    return float(scipy.stats.t.sf(beyond / spread, len(values) - 1))


def _labelled(checked: Checked) -> int:
    [row] = checked.rows("SELECT count(correct) AS labelled FROM documents WHERE failure IS NULL")
    return int(row["labelled"])


def _accuracy_before(run: Row, earlier: list[Row]) -> float | None:
    known = [row for row in earlier if row["accuracy"] is not None] or [run]
    explained = [(row["accuracy"], row["documents"] - row["failures"]) for row in known]
    return _pooled([(accuracy * count, count) for accuracy, count in explained if accuracy is not None])


def _pooled(counts: list[tuple[float, int]]) -> float | None:
    total = sum(of for _, of in counts)
    return sum(count for count, _ in counts) / total if total else None


def _same_documents(checked: Checked, outcome: GateOutcome) -> bool:
    rows = checked.rows(
        "SELECT tests_paired AS same FROM comparisons WHERE reference_id = ?",
        outcome.reference_id,
    )
    return bool(rows and rows[0]["same"])


def _most(limit: float | None, of: int) -> int:
    """The largest count that is within a limit of the share."""
    assert limit is not None
    return int(np.floor(_exact(limit * of)))


def _exact(number: np.ndarray | float) -> np.ndarray:
    """Without the rounding that makes 0.3 · 10 a little less than 3."""
    nearest = np.round(number)
    return np.where(np.abs(number - nearest) < 1e-9 * np.maximum(1, np.abs(number)), nearest, number)
