"""The gate slow_drift: when it fails, what it says, and what it follows; on tables whose history is known."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from calig.config import AuditConfig, parse_config
from calig.config.history import SlowDriftGate
from calig.errors import InputError
from calig.files import write_json
from calig.gates import check_configured, check_run
from calig.gates.finding import Checked
from calig.gates.slow_drift import slow_drift_gate
from calig.warehouse.aggregate import rebuild
from calig.warehouse.gates import GateOutcome, read_gates, store_gates
from calig.warehouse.layout import Warehouse
from calig.warehouse.metrics import series
from calig.warehouse.query import open_tables, query
from calig.warehouse.slow_drift import follow, stated
from tests.material.report_nights import NAME, START, Story, make, run_id
from tests.material.tiers import extended
from tests.material.warehouse_nights import add_night
from tests.material.warehouses import make_texts

NIGHTS, CHANGE = 80, 50
LEVEL = 1 / 1460
Accuracy = Callable[[int], float | None]


def noise(night: int) -> float:
    """Accuracy of a night in which nothing changed."""
    return float(0.9 + np.random.default_rng([4, night]).normal(0, 0.007))


def lower(night: int) -> float:
    return noise(night) - 0.03 * (night >= CHANGE)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return make(tmp_path_factory.mktemp("nights"), Story(nights=NIGHTS))


@pytest.fixture
def nights(made: Warehouse, tmp_path: Path) -> Callable[..., Warehouse]:
    """The nights, their accuracy made to measure, and one statement more."""

    def changed(accuracy: Accuracy, *statements: str) -> Warehouse:
        (tmp_path / "calig.duckdb").write_bytes(made.database.read_bytes())
        with duckdb.connect(str(tmp_path / "calig.duckdb")) as connection:
            rows = {"id": list(map(run_id, range(NIGHTS))), "value": list(map(accuracy, range(NIGHTS)))}
            connection.register(
                "made", pa.table({"id": rows["id"], "value": pa.array(rows["value"], pa.float64())})
            )
            connection.execute("UPDATE runs SET accuracy = value FROM made WHERE run_id = id")
            for statement in statements:
                connection.execute(statement)
        return Warehouse.open(tmp_path)

    return changed


def check(warehouse: Warehouse, night: int, level: float = LEVEL, **gate: Any) -> GateOutcome:
    with closing(open_tables(warehouse)) as connection:
        return slow_drift_gate(
            warehouse,
            Checked(run_id(night), connection),
            SlowDriftGate.model_validate({"what": ["accuracy"]} | gate),
            level,
        )


def failing(warehouse: Warehouse, level: float = LEVEL) -> list[int]:
    """The nights in which the control finds something; the gate fails in the first, and not before and after."""
    with closing(open_tables(warehouse)) as connection:
        found = [alarm.found for _, alarm in follow(connection, NAME, level, ["accuracy"]).alarms()]
    for night in found[:1]:
        around = [check(warehouse, night + step, level).passed for step in (-1, 0, 1)]
        assert around[0] is not False
        assert around[1:] == [False, None], "the control of the one metric begins again"
    return sorted(found)


def test_a_change_fails_one_night_and_is_told_in_the_later_ones(nights: Callable[..., Warehouse]) -> None:
    warehouse = nights(lower)
    [night] = failing(warehouse)
    assert CHANGE < night < CHANGE + 15
    outcome = check(warehouse, night)
    before, after = (np.mean([lower(n) for n in span]) for span in (range(CHANGE), range(CHANGE, night + 1)))
    assert outcome.detail == (
        f"accuracy has been lower since 20 April 2026 ({before:.2%} before, then {after:.2%}); "
        f"found on {day(night)}; see: calig history accuracy --name {NAME}"
    )
    assert (outcome.state, outcome.severity, outcome.value, outcome.limit) == ("fails", "error", 1.0, 1.0)
    assert outcome.level == LEVEL
    later = check(warehouse, night + 20)
    assert later.state == "holds"
    assert later.detail.startswith(
        f"nothing more has moved slowly over {night + 21} runs, since 1 March 2026; "
    )
    assert "last found: accuracy has been lower since 20 April 2026" in later.detail
    assert f"found on {day(night)}" in later.detail


def day(night: int) -> str:
    return f"{START + timedelta(days=night):%-d %B %Y}"


def test_quiet_nights_hold_and_say_what_they_could_have_seen(nights: Callable[..., Warehouse]) -> None:
    warehouse = nights(noise)
    assert failing(warehouse) == []
    outcome = check(warehouse, NIGHTS - 1)
    assert (outcome.state, outcome.passed) == ("holds", True)
    assert outcome.detail == "nothing has moved slowly over 80 runs, since 1 March 2026"
    assert 0 <= (outcome.value or 0) < 1
    assert outcome.detectable is not None
    assert 0.004 < outcome.detectable < 0.015, "about one standard deviation of a night"
    assert outcome.cannot_see == (
        f"a lasting change of accuracy below {100 * outcome.detectable:.2g} points, within 30 runs"
    )
    warehouse = nights(noise, "UPDATE watched SET effect = effect + 0.01 * (hash(run_id) % 7)")
    assert re.fullmatch(
        r"a lasting change of accuracy below [\d.]+ points, of the effect of identity below "
        r"[\d.]+ logits, of a measure of the layer profile below [\d.]+ standard deviations from run to run, "
        r"within 30 runs",
        check(warehouse, NIGHTS - 1, what=["accuracy", "watched", "layers"]).cannot_see or "",
    )


def test_a_rarer_alarm_comes_later(nights: Callable[..., Warehouse]) -> None:
    warehouse = nights(lower)
    assert failing(warehouse) < failing(warehouse, LEVEL / 1000)


def test_too_few_runs_are_not_checked_and_say_how_many_more(nights: Callable[..., Warehouse]) -> None:
    warehouse = nights(lambda night: 0.5 + night / 1000)
    first = min(failing(warehouse))
    for night in (0, 3, first - 1):
        outcome = check(warehouse, night)
        assert (outcome.passed, outcome.state) == (None, "not checked")
        runs, more = night + 1, first - night
        assert outcome.detail == (
            f"{runs} run{'s' * (runs > 1)} so far: it can find something after {more} more "
            f"run{'s' * (more > 1)}"
        )
        assert outcome.detectable is None or outcome.detectable > 0
    assert "of accuracy, however large" in (check(warehouse, 0).cannot_see or "")


def test_the_control_begins_with_since(nights: Callable[..., Warehouse]) -> None:
    warehouse = nights(lower)
    with closing(open_tables(warehouse)) as connection:
        drift = follow(connection, NAME, LEVEL, ["accuracy"], run_id(CHANGE))
        assert [run.run_id for run in drift.runs] == [run_id(night) for night in range(CHANGE, NIGHTS)]
        assert drift.alarms() == []
        with pytest.raises(InputError, match=r"gates\.slow_drift\.since: run nope is no complete run"):
            follow(connection, NAME, LEVEL, ["accuracy"], "nope")


def test_unfinished_runs_and_other_audits_do_not_count(nights: Callable[..., Warehouse]) -> None:
    odd = "({})".format(", ".join(f"'{run_id(night)}'" for night in range(20, 45)))
    for statement in (
        f"UPDATE runs SET status = 'failed', accuracy = 0.1 WHERE run_id IN {odd}",
        f"UPDATE runs SET name = 'other', accuracy = 0.1 WHERE run_id IN {odd}",
    ):
        assert failing(nights(noise, statement)) == []
    assert failing(nights(noise, f"UPDATE runs SET accuracy = 0.1 WHERE run_id IN {odd}")) != []


def test_a_run_made_again_counts_once(nights: Callable[..., Warehouse]) -> None:
    """The same documents explained by the same model are no further evidence, however often."""
    again = "UPDATE runs SET corpus_key = 'same', accuracy = 0.87 WHERE started >= '2026-04-20 00:00'"
    warehouse = nights(noise, again)
    assert failing(warehouse) == []
    with closing(open_tables(warehouse)) as connection:
        runs = follow(connection, NAME, LEVEL, ["accuracy"]).runs
    assert [run.run_id for run in runs[-2:]] == [run_id(CHANGE - 1), run_id(NIGHTS - 1)]


def test_nights_without_labels_are_passed_over(nights: Callable[..., Warehouse]) -> None:
    def accuracy(night: int) -> float | None:
        return None if night % 3 == 0 else lower(night)

    assert len(failing(nights(accuracy))) == 1
    outcome = check(nights(lambda _: None), NIGHTS - 1)
    assert (outcome.passed, outcome.state) == (None, "not checked")
    assert outcome.detail == "there is nothing to follow of accuracy"


def test_a_regression_is_followed_by_its_error(nights: Callable[..., Warehouse]) -> None:
    warehouse = nights(
        lambda _: None,
        "UPDATE runs SET head = 'regression', mean_absolute_error = 0.4 + 0.001 * (doc % 7) + 0.03 * (doc >= 50)::INT "
        "FROM (SELECT run_id AS id, row_number() OVER (ORDER BY started) - 1 AS doc FROM runs) WHERE run_id = id",
    )
    [night] = failing(warehouse)
    assert check(warehouse, night).detail.startswith(
        "the mean absolute error has been higher since 20 April 2026 (0.40"
    )


def test_every_metric_has_its_values_and_its_part_of_the_level(nights: Callable[..., Warehouse]) -> None:
    warehouse = nights(noise)
    with closing(open_tables(warehouse)) as connection:
        drift = follow(connection, NAME, LEVEL)
        for one in drift.followed:
            points = series(connection, one.metric, NAME)
            expected = [math.nan if point.value is None else point.value for point in points]
            assert one.values.tolist() == pytest.approx(expected, nan_ok=True), one.metric
        explained, held = connection.execute(
            "SELECT r.documents - failures, w.documents FROM runs AS r JOIN watched AS w USING (run_id) "
            "WHERE list = 'identity' AND term = 'man' AND class = '*' ORDER BY started LIMIT 1"
        ).fetchall()[0]
    assert drift.groups == ["accuracy", "watched", "layers"]
    counts = {group: sum(one.group == group for one in drift.followed) for group in drift.groups}
    assert counts == {"accuracy": 1, "watched": 2 * 5, "layers": 6 * 7 - 1}, "no context at depth 0"
    limits = {one.group: one.limit for one in drift.followed}
    assert limits["accuracy"] < limits["watched"] < limits["layers"]
    weights = {one.metric: one.weights[0] for one in drift.followed}
    assert weights["watched.share:identity/man"] == explained
    assert weights["watched.effect:identity/man"] == held == 12
    assert weights["accuracy"] == explained


def test_the_layers_of_a_model_of_other_depth_are_another_history(nights: Callable[..., Warehouse]) -> None:
    warehouse = nights(noise, "UPDATE runs SET depths = 5 WHERE started < '2026-04-20 00:00'")
    with closing(open_tables(warehouse)) as connection:
        runs = {one.group: one.control.runs for one in follow(connection, NAME, LEVEL).followed}
    assert runs["accuracy"] == NIGHTS
    assert runs["layers"] < NIGHTS - CHANGE + 1


def test_nights_that_share_documents_say_so(nights: Callable[..., Warehouse]) -> None:
    warehouse = nights(lower)
    assert "documents" not in check(warehouse, NIGHTS - 1).detail
    alone = failing(warehouse)
    shared = "UPDATE comparisons SET paired = 0.6 * documents_b"
    warehouse = nights(lower, shared)
    assert check(warehouse, NIGHTS - 1).detail.endswith(
        "; 60% of a run's documents are in the run before too: the control allows for it, and finds changes later"
    )
    assert alone < failing(warehouse)
    warehouse = nights(
        lower,
        f"{shared} WHERE requested = 'baseline'",
        "UPDATE runs SET reused = 0.75 * (documents - failures)",
    )
    assert "60%" not in check(warehouse, NIGHTS - 1).detail
    warehouse = nights(
        lower, "DELETE FROM comparisons", "UPDATE runs SET reused = 0.75 * (documents - failures)"
    )
    assert "; 75% of the documents were explained by earlier runs: " in check(warehouse, NIGHTS - 1).detail


def test_history_and_trend_page_follow_as_the_gate_of_the_newest_run(
    nights: Callable[..., Warehouse],
) -> None:
    warehouse = nights(lower)
    with closing(open_tables(warehouse)) as connection:
        limit = stated(connection, warehouse, NAME).followed[0].limit
        assert limit == follow(connection, NAME, 1 / 365 / 2).followed[0].limit
    newest = run_id(NIGHTS - 1)
    with duckdb.connect(str(warehouse.database)) as connection:
        connection.execute("INSERT INTO gates (run_id, gate, level) VALUES (?, 'slow_drift', 0.01)", [newest])
        connection.execute(
            """UPDATE runs SET config = '{"gates": {"slow_drift": {"what": ["layers"], "since": "gone"}}}'"""
        )
    with closing(open_tables(warehouse)) as connection:
        followed = stated(connection, warehouse, NAME).followed
        expected = follow(connection, NAME, 0.01, ["layers"]).followed
    assert [(one.metric, one.limit) for one in followed] == [(one.metric, one.limit) for one in expected]


# ---- real runs, from the configuration on


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Two nights and a failed one between them."""
    warehouse = Warehouse.open(tmp_path_factory.mktemp("real"))
    for number, status in enumerate(("complete", "failed", "complete")):
        add_night(warehouse, number, make_texts(30, number), status=status)
    return warehouse


def config(warehouse: Warehouse | None, slow_drift: Any, **others: Any) -> AuditConfig:
    return parse_config(
        {
            "name": "nightly",
            "model": {"id": "m"},
            "corpus": {"path": "a.csv", "label": "label"},
            "gates": {"max_failure_share": None, "max_unconverged_share": None, "slow_drift": slow_drift},
        }
        | ({"warehouse": str(warehouse.root)} if warehouse else {})
        | others
    )


@extended("three runs with their tables, and the gate of each")
def test_a_runs_gate_looks_at_the_runs_before_it(real: Warehouse) -> None:
    write_json(real.tags / "first", {"run_id": "nightly-00"})
    for gate in (True, {"since": "first", "severity": "warn"}):
        [outcome] = check_run(real, "nightly-02", config(real, gate))
        assert (outcome.gate, outcome.passed, outcome.state) == ("slow_drift", None, "not checked")
        assert outcome.detail.startswith("2 runs so far: it can find something after ")
    assert outcome.severity == "warn"
    [outcome] = check_run(real, "nightly-02", config(real, {"since": "nightly-02"}))
    assert outcome.detail.startswith("1 run so far: ")
    store_gates(real, "nightly-02", [outcome])
    rebuild(real)
    assert read_gates(real.run("nightly-02")) == [outcome]
    stored = query(real, "SELECT state, level, cannot_see FROM gates", "nightly-02").rows
    assert stored == [(outcome.state, outcome.level, outcome.cannot_see)]


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"what": ["watched"]}, "gates.slow_drift.what: watched: no words are watched; set watch"),
        (
            {"what": ["accuracy", "watched"]},
            "gates.slow_drift.what: watched: no words are watched; set watch",
        ),
        ({"since": "previous"}, "gates.slow_drift.since: previous is another run every night; name a run"),
        ({"since": "nope"}, "gates.slow_drift.since: run nope: no such run"),
        (
            {"since": "nightly-01"},
            "gates.slow_drift.since: run nightly-01 is no complete run of audit nightly",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(real: Warehouse, gate: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        check_configured(real, config(real, gate), "text")
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_accuracy_without_labels_is_refused(real: Warehouse) -> None:
    with pytest.raises(
        InputError, match=r"what: accuracy: the corpus has no labels; set corpus\.label, or leave"
    ):
        check_configured(real, config(real, {"what": ["accuracy"]}, corpus={"path": "a.csv"}), "text")


def test_what_makes_sense_is_not_refused(real: Warehouse, tmp_path: Path) -> None:
    check_configured(real, config(real, True), "image")
    check_configured(real, config(real, {"what": ["layers"], "since": "nightly-00"}), "text")
    empty = Warehouse.open(tmp_path)
    check_configured(empty, config(empty, {"since": "not-yet-there"}), "text")
