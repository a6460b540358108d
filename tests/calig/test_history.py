"""`calig history`: a metric night after night, what metrics there are, and a trend page that an audit writes."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from calig import stages
from calig.cli import main
from calig.files import write_json
from calig.history import bar, sparks, written
from calig.report import trend
from calig.warehouse.aggregate import aggregate
from calig.warehouse.layout import Warehouse
from tests.material.report_nights import LEAK, NAME, RETRAINED, Story, make, measured, run_id, write
from tests.material.warehouses import make_warehouse

Calig = Callable[..., tuple[int, str, str]]
NIGHTS = RETRAINED + 3


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return make(tmp_path_factory.mktemp("nights"), Story(nights=NIGHTS))


@pytest.fixture
def history(capsys: pytest.CaptureFixture[str], warehouse: Warehouse) -> Calig:
    def run(*arguments: str, root: Path | None = None) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(["history", *arguments, "--warehouse", str(root or warehouse.root)])
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return run


def values(history: Calig, *arguments: str) -> list[tuple[str, str | None, float | None]]:
    code, out, _ = history(*arguments, "--format", "json")
    assert code == 0
    return [(row["run_id"], row["against"], row["value"]) for row in json.loads(out)]


def test_a_column_of_runs(history: Calig, warehouse: Warehouse) -> None:
    with duckdb.connect(str(warehouse.database), read_only=True) as connection:
        expected = connection.execute("SELECT run_id, NULL, accuracy FROM runs ORDER BY started").fetchall()
    assert values(history, "accuracy") == expected
    assert values(history, "accuracy", "--last", "2") == expected[-2:]


def test_a_column_of_comparisons_says_against_what(history: Calig, warehouse: Warehouse) -> None:
    found = values(history, "class_psi", "--last", "1")
    with duckdb.connect(str(warehouse.database), read_only=True) as connection:
        expected = connection.execute(
            "SELECT run_id, requested, class_psi FROM comparisons WHERE run_id = ? ORDER BY requested",
            [run_id(NIGHTS - 1)],
        ).fetchall()
    assert found == expected
    assert [against for _, against, _ in found] == ["baseline", "previous"]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (f"watched.share:leaks/{LEAK}", 0.031),
        ("watched.share:leaks", 0.031),
        ("watched.share:identity", 0.012),
        ("watched.effect:identity/woman", 0.08),
        ("layer.special_share:3", measured("special_share", 3, True)),
        ("gate:max_failure_share", None),
    ],
)
def test_watched_terms_layers_and_gates(
    history: Calig, warehouse: Warehouse, metric: str, expected: float | None
) -> None:
    [(run, against, value)] = values(history, metric, "--last", "1")
    assert (run, against) == (run_id(NIGHTS - 1), None)
    if expected is None:
        with duckdb.connect(str(warehouse.database), read_only=True) as connection:
            [expected] = connection.execute(
                "SELECT failures / documents FROM runs WHERE run_id = ?", [run]
            ).fetchall()[0]  # type: ignore[misc]
    assert value == pytest.approx(expected)


def test_csv_is_for_programs(history: Calig) -> None:
    code, out, _ = history("failures", "--format", "csv", "--last", "3")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert [row["run_id"] for row in rows] == [run_id(night) for night in range(NIGHTS - 3, NIGHTS)]
    assert list(rows[0]) == ["run_id", "started", "against", "value"]


def test_a_table_has_bars_and_a_line_of_sparks(history: Calig) -> None:
    code, out, _ = history("layer.special_share:0")
    lines = out.splitlines()
    assert code == 0
    assert len(lines) == 1 + NIGHTS + 2
    assert run_id(0) in lines[1]
    assert "0.08" in lines[1]
    assert lines[-3].count("█") > 2 * lines[1].count("█")  # 0.20 to 0.08
    assert lines[-2] == f"layer.special_share:0  {'▁' * RETRAINED}{'█' * 3}  0.08 to 0.2"
    assert lines[-1] == f"slow drift: none over {NIGHTS} runs"


def test_a_metric_that_moved_slowly_says_since_when(history: Calig, tmp_path: Path) -> None:
    make(tmp_path, Story(nights=45))
    _, out, _ = history("layer.special_share:0", root=tmp_path)
    assert out.splitlines()[-1] == (
        "slow drift: special share at depth 0 has been higher since 21 March 2026 (0.08 before, then 0.2); "
        "found on 9 April 2026"
    )
    _, out, _ = history("watched.effect:leaks", root=tmp_path)
    assert out.splitlines()[-1] == "slow drift: none over 45 runs"
    _, out, _ = history("documents", root=tmp_path)
    assert "slow drift" not in out
    _, out, _ = history("accuracy", "--last", "2", root=tmp_path)
    assert "slow drift: accuracy has been lower since" in out

    with duckdb.connect(str(tmp_path / "calig.duckdb")) as connection:
        connection.execute("DELETE FROM runs WHERE started > '2026-03-04'")
    _, out, _ = history("accuracy", root=tmp_path)
    assert out.splitlines()[-1].startswith("slow drift: 3 runs so far: can find something after ")


@pytest.mark.parametrize(
    ("metric", "suggestion"),
    [
        ("acuracy", "accuracy"),
        ("psi", "class_psi"),
        ("watched.share:leak", "watched.share:leaks"),
        ("gate:min_acuracy", "gate:min_accuracy"),
    ],
)
def test_a_wrong_metric_names_those_written_alike(history: Calig, metric: str, suggestion: str) -> None:
    code, out, err = history(metric)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(f"calig: metric {metric}: not measured of audit {NAME}; did you mean ")
    assert suggestion in err


@pytest.mark.parametrize(
    "metric",
    [
        *("run_id", "name", "started", "watched.term:leaks", "layer.depth:1"),
        *("layer.special_share:99", "gate:", "a' OR 1=1 --", ""),
    ],
)
def test_what_is_no_number_is_no_metric(history: Calig, metric: str) -> None:
    code, _, err = history(metric)
    assert code == 2
    assert "not measured" in err


def test_without_a_metric_all_are_listed_and_the_page_is_written(
    history: Calig, warehouse: Warehouse
) -> None:
    code, out, _ = history()
    assert code == 0
    for name in (
        "accuracy",
        "class_psi",
        f"watched.share:leaks/{LEAK}",
        "layer.special_share:6",
        "gate:min_accuracy",
    ):
        assert any(line.split()[:1] == [name] for line in out.splitlines()), name
    page = warehouse.root / "history" / NAME / "index.html"
    assert out.splitlines()[-1] == f"trend page: {page.as_uri()}"
    assert page.is_file()
    assert "gate:drift" not in out  # it has no value
    listed = values_of_list(history)
    assert listed["layer.special_share:6"] == measured("special_share", 6, True)


def values_of_list(history: Calig) -> dict[str, float]:
    _, out, _ = history("--format", "json")
    return {row["metric"]: row["value"] for row in json.loads(out)}


def test_the_newest_runs_audit_unless_one_is_named(history: Calig, tmp_path: Path) -> None:
    warehouse = make(tmp_path, Story(nights=2, name="early"))
    with duckdb.connect(str(warehouse.database)) as connection:
        row = (
            connection.sql("SELECT * FROM runs WHERE run_id = ?", params=[run_id(1)])
            .to_arrow_table()
            .to_pylist()[0]
        )
    write(
        warehouse,
        {"runs": [row | {"run_id": "late", "name": "late", "started": row["started"].replace(month=5)}]},
    )
    _, out, _ = history("documents", "--format", "json", root=tmp_path)
    assert [one["run_id"] for one in json.loads(out)] == ["late"]
    _, out, _ = history("documents", "--format", "json", "--name", "early", root=tmp_path)
    assert [one["run_id"] for one in json.loads(out)] == [run_id(0), run_id(1)]
    code, _, err = history("documents", "--name", "nope", root=tmp_path)
    assert code == 2
    assert "no complete run of audit nope" in err
    assert "late, early" in err


def test_an_empty_warehouse_is_said(history: Calig, tmp_path: Path) -> None:
    write(Warehouse.open(tmp_path), {})
    code, _, err = history(root=tmp_path)
    assert code == 2
    assert f"calig audit CONFIG.yaml --warehouse {tmp_path}` first" in err


def test_control_characters_do_not_reach_the_terminal(history: Calig, tmp_path: Path) -> None:
    make(tmp_path, Story(nights=2, leak="a\x1b[31m"))
    _, out, _ = history(root=tmp_path)
    assert "\x1b[31m" not in out


def test_bars_and_sparks() -> None:
    assert (bar(1.0, 0.0, 2.0), bar(2.0, 0.0, 2.0), bar(0.0, 0.0, 2.0)) == ("█" * 12, "█" * 24, "")
    assert bar(1.0 + 1 / 96, 0.0, 2.0) == "█" * 12 + "▏"
    assert bar(3.0, 2.0, 4.0) == "█" * 18, "from 0, not from the lowest"
    assert (bar(None, 0.0, 1.0), bar(float("nan"), 0.0, 1.0), bar(0.0, -1.0, 1.0)) == ("", "", "█" * 12)
    assert sparks([0.0, 0.5, 1.0, None]) == "▁▅█ "
    assert sparks([2.0, 2.0]) == "▄▄"
    assert sparks([None]) == " "
    assert [written(value) for value in (None, 12_345.0, 0.123456, -2.0)] == ["-", "12,345", "0.1235", "-2"]


@pytest.fixture
def run(tmp_path: Path) -> Any:
    warehouse = Warehouse.open(tmp_path)
    own = make_warehouse(tmp_path, documents=20, depths=3)
    return SimpleNamespace(
        warehouse=warehouse, run_id=own, config=SimpleNamespace(name="synthetic"), hold=None
    )


def test_an_audit_writes_the_trend_page_from_its_second_complete_run_on(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[tuple[Warehouse, str]] = []
    monkeypatch.setattr(trend, "build", lambda warehouse, name: built.append((warehouse, name)))
    stages.write_trend(run.warehouse, run.config.name)
    assert built == []
    other = make_warehouse(run.warehouse.root, documents=20, depths=3, seed=1)
    manifest = run.warehouse.run(other) / "manifest.json"
    first = json.loads(manifest.read_text())
    write_json(manifest, first | {"status": "failed"})
    stages.write_trend(run.warehouse, run.config.name)
    assert built == []
    write_json(manifest, first)
    stages.write_trend(run.warehouse, run.config.name)
    assert built == [(run.warehouse, "synthetic")]


def test_a_report_brings_the_trend_page_with_it(run: Any) -> None:
    aggregate(run.warehouse, run.run_id)
    stages.write_report(run)
    stages.complete_run(run)
    place = run.warehouse.root / "history" / "synthetic" / "index.html"
    assert not place.exists()
    run.run_id = make_warehouse(run.warehouse.root, documents=20, depths=3, seed=1)
    aggregate(run.warehouse, run.run_id)
    page = stages.write_report(run)
    stages.complete_run(run)
    assert "<h1>2 runs of synthetic; the model changed once.</h1>" in place.read_text("utf-8")
    assert f"../../runs/{run.run_id}/report/index.html" in place.read_text("utf-8")
    assert page.is_file()


def test_a_trend_page_that_fails_is_logged_and_the_report_is_there(
    run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_warehouse(run.warehouse.root, documents=20, depths=3, seed=1)
    aggregate(run.warehouse, run.run_id)

    def broken(root: Path, name: str) -> Path:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(trend, "build", broken)
    with caplog.at_level(logging.ERROR):
        page = stages.write_report(run)
        stages.complete_run(run)
    assert page == run.warehouse.run(run.run_id) / "report" / "index.html"
    assert page.is_file()
    assert "the trend page of synthetic could not be written" in caplog.text
    assert "the disk is full" in caplog.text
