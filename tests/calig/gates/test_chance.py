"""What gates say of chance: PSI gates beyond it, how often a plain limit is crossed, what could not be seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pytest
from scipy import stats

from calig.config import CompareConfig, GatesConfig
from calig.config.history import DriftGate, Limit
from calig.gates.compared import comparison_gates
from calig.gates.finding import Checked, Finding
from calig.gates.psi import psi_gate
from calig.gates.quiet import with_chance
from calig.gates.sensitivity import smallest_difference, with_sensitivity
from calig.warehouse.database import create_tables
from calig.warehouse.gates import GateOutcome

COMPARED: dict[str, Any] = {
    "run_id": "run-0", "reference_id": "run-9", "requested": "previous", "documents_a": 60, "documents_b": 60,
    "paired": 0, "tests_paired": False, "alpha": 0.003, "words_tested": 40, "layers_tested": 84, "outcomes_tested": 9,
    "layer_psi": 0.4, "layer_psi_by_chance": 0.3, "layer_psi_p": 0.0004, "psi_level": 0.001,
}  # fmt: skip
ACCURACY: dict[str, Any] = {
    "run_id": "run-0", "reference_id": "run-9", "measure": "accuracy", "documents_a": 50, "documents_b": 60,
}  # fmt: skip


@pytest.fixture
def checked() -> Iterator[Checked]:
    """A run, run-0, of 60 documents in tables that are else empty."""
    with duckdb.connect() as connection:
        create_tables(connection)
        connection.execute("CREATE TABLE documents (doc_id BIGINT, correct BOOLEAN, failure VARCHAR)")
        connection.execute("INSERT INTO documents SELECT i, i % 10 <> 0, NULL FROM range(60) t(i)")
        insert(connection, "runs", run(0, 60, 0, 0.9))
        yield Checked("run-0", connection)


def run(number: int, documents: int, failures: int, accuracy: float | None) -> dict[str, Any]:
    """A row of `runs`: run-1 is the night before run-0, and so on."""
    started = f"2026-03-{28 - number:02}"
    own = {
        "run_id": f"run-{number}",
        "name": "n",
        "status": "complete",
        "started": started,
        "head": "single_label",
    }
    return own | {"documents": documents, "failures": failures, "accuracy": accuracy, "classes": ["a", "b"]}


def insert(connection: duckdb.DuckDBPyConnection, table: str, *rows: dict[str, Any]) -> None:
    for row in rows:
        names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values()))


def layer_gate(checked: Checked, limit: float, **changed: Any) -> GateOutcome:
    row = COMPARED | changed
    return psi_gate(
        checked, "max_layer_psi", Limit(limit=limit), row, Finding(row["layer_psi"], "{value}, {limit}")
    )


@pytest.mark.parametrize(
    ("psi", "limit", "by_chance", "state"),
    [
        (0.4, 0.25, 0.3, "fails"),
        (0.2, 0.25, 0.3, "holds"),
        (0.28, 0.25, 0.3, "too few documents"),
        (0.28, 0.25, 0.2, "fails"),
        (0.3, 0, 0.3, "too few documents"),
        (0.31, 0, 0.3, "fails"),
        (0.1, 0.25, None, "not checked"),
        (None, 0.25, None, "not checked"),
    ],
)
def test_an_index_fails_beyond_its_limit_and_beyond_chance(
    checked: Checked, psi: float | None, limit: float, by_chance: float | None, state: str
) -> None:
    outcome = layer_gate(checked, limit, layer_psi=psi, layer_psi_by_chance=by_chance)
    assert (outcome.state, outcome.passed) == (state, {"holds": True, "fails": False}.get(state))


def test_too_few_documents_says_how_many_would_do(checked: Checked) -> None:
    """Chance's part of an index falls as documents grow: four times the limit, four times the documents."""
    outcome = layer_gate(checked, 0.25, layer_psi=0.9, layer_psi_by_chance=1.0)
    assert outcome.detail == (
        "a population stability index of 0.9 is above the limit of 0.25, but with 60 and 60 documents chance alone "
        "reaches 1: too few documents to tell; about 240 in each run would do"
    )
    assert outcome.level == 0.001
    assert outcome.detectable is not None
    assert outcome.detectable > 1


def test_a_comparison_of_an_earlier_version_is_held_to_its_limit_alone(checked: Checked) -> None:
    outcome = layer_gate(checked, 0.25, psi_level=None, layer_psi_by_chance=None)
    assert (outcome.state, outcome.level) == ("fails", None)


def chance_of_crossing(checked: Checked, outcome: GateOutcome) -> float | None:
    [found] = with_chance(checked, [outcome])
    return found.chance


def plain(gate: str, limit: float, value: float, reference: str | None = None) -> GateOutcome:
    return GateOutcome("run-0", gate, "error", True, value, limit, reference, "")


def test_counts_cross_their_limit_as_the_binomial_distribution_says(checked: Checked) -> None:
    """The share is that of the earlier runs together; later runs, and other audits', do not count."""
    insert(checked.connection, "runs", run(1, 100, 10, 0.9), run(2, 300, 6, 0.8))
    insert(checked.connection, "runs", run(3, 1000, 900, 0.1) | {"name": "other"}, run(-1, 1000, 900, 0.1))
    failures = chance_of_crossing(checked, plain("max_failure_share", 0.05, 0.02))
    assert failures == pytest.approx(stats.binom.sf(3, 60, 16 / 400))
    share = (0.9 * 90 + 0.8 * 294) / 384
    accuracy = chance_of_crossing(checked, plain("min_accuracy", 0.8, 0.9))
    assert accuracy == pytest.approx(stats.binom.cdf(47, 60, share))
    insert(checked.connection, "comparisons", COMPARED)
    insert(checked.connection, "comparison_outcomes", ACCURACY)
    drop = chance_of_crossing(checked, plain("max_accuracy_drop", 0.1, 0.02, "run-9"))
    rng = np.random.default_rng(0)
    drawn = rng.binomial(50, share, 400_000) / 50 - rng.binomial(60, share, 400_000) / 60
    assert drop == pytest.approx((drawn > 0.1 + 1e-9).mean(), abs=0.003)


def test_on_the_same_documents_nothing_flips_by_chance(checked: Checked) -> None:
    insert(checked.connection, "comparisons", COMPARED | {"paired": 60, "tests_paired": True})
    insert(checked.connection, "comparison_outcomes", ACCURACY | {"documents_a": 60})
    for gate in ("max_flip_share", "max_accuracy_drop"):
        assert chance_of_crossing(checked, plain(gate, 0.1, 0.02, "run-9")) == 0


def test_other_numbers_vary_as_they_did_in_earlier_runs(checked: Checked) -> None:
    values = np.random.default_rng(1).normal(0.9, 0.02, 12)
    for number, value in enumerate(values, start=1):
        insert(checked.connection, "runs", run(number, 60, 0, 0.9))
        earlier = {"run_id": f"run-{number}", "gate": "min_converged_share", "value": value}
        insert(checked.connection, "gates", earlier)
    found = chance_of_crossing(checked, plain("min_converged_share", 0.88, 0.9))
    spread = values.std(ddof=1) * np.sqrt(1 + 1 / 12)
    assert found == pytest.approx(stats.t.cdf((0.88 - values.mean()) / spread, 11))
    checked.connection.execute("DELETE FROM gates WHERE run_id > 'run-3'")
    assert chance_of_crossing(checked, plain("min_converged_share", 0.88, 0.9)) is None


def test_drift_says_what_it_cannot_see(checked: Checked) -> None:
    outcome = {"run_id": "run-0", "reference_id": "run-9", "documents_a": 60, "documents_b": 60, "p": 0.5}
    interval = {"difference": 0.1, "low": -0.9, "high": 1.1, "a": 0.9, "b": 0.9}
    insert(checked.connection, "comparisons", COMPARED)
    insert(
        checked.connection, "comparison_outcomes", outcome | interval | {"measure": "accuracy", "class": "*"}
    )
    insert(
        checked.connection,
        "comparison_layers",
        outcome | interval | {"class": "*", "measure": "m", "size": 0.05},
    )
    word = {name: value for name, value in (outcome | interval).items() if name not in ("a", "b")}
    insert(checked.connection, "comparison_words", word | {"class": "a", "word": "w"})
    held = GateOutcome("run-0", "drift", "error", True, 0, 0, "run-9", "")
    found = with_sensitivity(checked, held, COMPARED, ("words", "layers", "outcomes"), CompareConfig())
    assert found.level == 0.003
    assert found.cannot_see is not None
    points, deviations, logits = map(
        float,
        re.fullmatch(
            r"a change of accuracy below (\d+) points, of a measure of the layer profile below ([\d.]+) standard "
            r"deviations, of a word's effect below ([\d.]+) logits \(half of the 1 words tested\), of a word in 5% of "
            r"the documents below a rise to \d+%, with 60 documents",
            found.cannot_see,
        ).groups(),  # type: ignore[union-attr]
    )
    assert found.detectable is not None
    assert points - 1 < 100 * found.detectable <= points
    # an interval of ±1 is 1.98 errors of the mean; at these levels 4.4 to 5 of them are asked for, and 0.84 more
    assert 2.4 < logits < 3.1
    assert deviations == pytest.approx(logits / 2, rel=0.1)  # the deviation is 0.1 / 0.05
    some = with_sensitivity(checked, held, COMPARED, ("layers",), CompareConfig())
    assert (some.detectable, "accuracy" in (some.cannot_see or "")) == (None, False)


def test_a_change_has_to_be_as_large_as_the_configuration_asks() -> None:
    """Of 10,000 documents the test finds less than counts as a change: that is what could be seen."""
    row = {"documents_a": 10_000, "documents_b": 10_000, "low": -0.01, "high": 0.01}
    error = 0.01 / stats.norm.ppf(0.975)
    tested = smallest_difference(row, 1e-4, False)
    assert tested == pytest.approx((stats.norm.isf(5e-5) + stats.norm.ppf(0.8)) * error, rel=1e-3)
    assert smallest_difference(row, 1e-4, False, least=0.1) == pytest.approx(
        0.1 + stats.norm.ppf(0.8) * error, rel=1e-3
    )
    assert smallest_difference(row, 1e-4, False, least=0.001) == tested


def test_all_gates_about_comparisons_say_their_level_or_their_chance(checked: Checked) -> None:
    insert(checked.connection, "comparisons", COMPARED | {"class_psi": 0.1, "class_psi_by_chance": 0.2})
    checked.connection.execute(
        "UPDATE comparisons SET flip_share = 0, flips = 0, accuracy_a = 0.9, accuracy_b = 0.9"
    )
    insert(checked.connection, "comparison_outcomes", ACCURACY | {"a": 0.9, "b": 0.9, "class": "*"})
    limits: dict[str, Any] = dict.fromkeys(
        ("max_class_psi", "max_layer_psi", "max_flip_share", "max_accuracy_drop"), Limit(limit=0.5)
    )
    gates = GatesConfig(**limits, drift=DriftGate())
    found = with_chance(checked, list(comparison_gates(checked, gates, CompareConfig())))
    outcomes = {one.gate: one for one in found}
    assert {gate for gate, one in outcomes.items() if one.level} == {
        "max_class_psi",
        "max_layer_psi",
        "drift",
    }
    assert {gate for gate, one in outcomes.items() if one.chance is not None} == {
        "max_flip_share",
        "max_accuracy_drop",
    }
