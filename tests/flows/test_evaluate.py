"""An evaluation through its flow and the command line: from nothing, again, after a kill, beside an audit."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
import yaml

from calig.cli import main
from calig.doctor import examine
from calig.warehouse.catalog import EVALUATION_TABLES
from tests.material.processes import start, wait_for_shards
from tests.material.tiers import extended
from tests.material.tiny import (
    Audited,
    Row,
    audit_config,
    audit_dict,
    make_rows,
    select,
    shard_times,
    write_parquet,
)

pytestmark = pytest.mark.usefixtures("prefect_server")

SECTION: dict[str, Any] = {
    "documents": 10,
    "methods": ["ca-lig", "ig", "random"],
    "metrics": ["faithfulness"],
    "shares": [0.2, 0.5],
}
SLOW: dict[str, Any] = {
    "method": {"tolerance": 1e-7, "max_nodes": 150},
    "runtime": {"shard_documents": 4, "threads": 1},
    "evaluation": SECTION | {"documents": None},
}
_TIMES = {"started", "finished", "evaluation_seconds", "seconds", "timings", "config", "versions", "status"}
"""Columns that differ between two evaluations with the same numbers; a status in the file is that of its making."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A warehouse with one finished evaluation, of texts with rationales."""

    warehouse: Path
    evaluation_id: str
    report: Path
    corpus: Path


def evaluate(model: Path, corpus: Path, warehouse: Path, /, **sections: Any) -> tuple[str, Path]:
    from flows.evaluate import evaluate as flow

    result = flow(audit_config(model, corpus, warehouse, **{"evaluation": SECTION, **sections}))
    return result.evaluation_id, result.report


def tables(warehouse: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the tables of evaluations, sorted, without times."""
    content = {}
    with closing(duckdb.connect(warehouse / "calig.duckdb", read_only=True)) as connection:
        for table in EVALUATION_TABLES:
            names = [row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall()]
            columns = ", ".join(name for name in names if name not in _TIMES)
            rows = connection.execute(f"SELECT {columns} FROM {table} ORDER BY ALL").fetchall()
            content[table] = [  # but for the order in which threads add up
                tuple(round(value, 9) if isinstance(value, float) else value for value in row) for row in rows
            ]
    return content


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_rows: list[Row]) -> Evaluated:
    folder = tmp_path_factory.mktemp("evaluated")
    rows = [row | {"why": [{"start": 0, "end": len(row["text"].split()[0])}]} for row in tiny_rows]
    corpus = write_parquet(folder / "marked.parquet", rows)
    section = SECTION | {"metrics": ["faithfulness", "plausibility"]}
    found = evaluate(tiny_model, corpus, folder / "w", corpus={"rationale": "why"}, evaluation=section)
    return Evaluated(folder / "w", *found, corpus)


@pytest.fixture
def warehouse(evaluated: Evaluated, tmp_path: Path) -> Path:
    """A copy of it, free to be changed."""
    return shutil.copytree(evaluated.warehouse, tmp_path / "w")


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, captured.out, captured.err


def test_an_evaluation_fills_the_warehouse(evaluated: Evaluated) -> None:
    assert evaluated.evaluation_id.startswith("tiny-")
    assert evaluated.report.is_relative_to(evaluated.warehouse / "evaluations" / evaluated.evaluation_id)
    assert evaluated.report.is_file()
    counts = {table: len(rows) for table, rows in tables(evaluated.warehouse).items()}
    assert (counts["evaluations"], counts["evaluation_methods"], counts["evaluation_documents"]) == (1, 3, 10)
    stats = select(
        evaluated.warehouse,
        "SELECT method, documents FROM evaluation_stats WHERE metric = 'token_f1' ORDER BY method",
    )
    [(count,)] = select(evaluated.warehouse, "SELECT count(*) FROM evaluation_documents WHERE target = label")
    assert 0 < count < 10, "a rationale speaks for the label"
    assert stats == [("ca-lig", count), ("ig", count), ("random", count)]
    disagreements = select(evaluated.warehouse, "SELECT disagreement FROM evaluation_documents")
    assert all(0 <= value <= 2 for (value,) in disagreements)


def test_without_rationales_there_is_no_plausibility(
    tmp_path: Path, tiny_model: Path, tiny_corpus: Path
) -> None:
    evaluate(tiny_model, tiny_corpus, tmp_path / "w")
    metrics = {metric for (metric,) in select(tmp_path / "w", "SELECT DISTINCT metric FROM evaluation")}
    assert "comprehensiveness" in metrics
    assert not metrics & {"token_f1", "auprc", "iou_f1"}


def test_the_same_again_computes_nothing(evaluated: Evaluated, warehouse: Path, tiny_model: Path) -> None:
    before, content = shard_times(warehouse), tables(warehouse)
    assert len(before) == 2
    section = SECTION | {"metrics": ["faithfulness", "plausibility"]}
    again, _ = evaluate(
        tiny_model,
        evaluated.corpus,
        warehouse,
        corpus={"rationale": "why"},
        evaluation=section,
        runtime={"shard_documents": 3},
    )
    assert again == evaluated.evaluation_id
    assert shard_times(warehouse) == before
    assert tables(warehouse) == content


def test_another_seed_is_another_evaluation_beside_it(
    evaluated: Evaluated, warehouse: Path, tiny_model: Path
) -> None:
    other, _ = evaluate(tiny_model, evaluated.corpus, warehouse, evaluation=SECTION | {"seed": 1})
    ids = select(warehouse, "SELECT evaluation_id FROM evaluations ORDER BY started, evaluation_id")
    assert {one for (one,) in ids} == {other, evaluated.evaluation_id}


@extended("sixty documents evaluated twice; test_resume kills an audit")
def test_after_kill_9_only_the_missing_shards_are_done(
    prefect_server: str, tmp_path: Path, tiny_model: Path, processes: list[subprocess.Popen[str]]
) -> None:
    corpus = write_parquet(tmp_path / "corpus.parquet", make_rows(60, seed=3))
    killed = tmp_path / "killed"
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(audit_dict(tiny_model, corpus, killed, **SLOW)))
    process = start("evaluate", config, tmp_path, processes, prefect_server)
    wait_for_shards(killed, 2, process)
    process.kill()
    process.wait()

    before = shard_times(killed)
    assert 2 <= len(before) < 15
    evaluation_id, _ = evaluate(tiny_model, corpus, killed, **SLOW)
    after = shard_times(killed)
    assert {name: after[name] for name in before} == before
    assert len(after) == 15
    folder = killed / "evaluations" / evaluation_id
    ids = [
        doc_id
        for name in after
        for doc_id in pq.read_table(folder / f"documents-{Path(name).stem[9:]}.parquet")["doc_id"].to_pylist()
    ]
    assert sorted(ids) == list(range(60)), "no document twice"

    undisturbed, _ = evaluate(tiny_model, corpus, tmp_path / "undisturbed", **SLOW)
    assert undisturbed == evaluation_id
    found, expected = tables(killed), tables(tmp_path / "undisturbed")
    assert len(found["evaluation"]) == len(expected["evaluation"])
    for ours, theirs in zip(found["evaluation"], expected["evaluation"], strict=True):
        assert ours[:-1] == theirs[:-1]
        assert ours[-1] == pytest.approx(theirs[-1], abs=1e-4)


def test_rebuild_and_doctor_know_evaluations(
    evaluated: Evaluated, warehouse: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (warehouse / "calig.duckdb").unlink()
    lacking = {f.subject.split()[0]: f for f in examine(warehouse)}
    assert lacking["tables"].healthy is False
    assert lacking["evaluation"].text == "2 shards"
    code, out, _ = command(capsys, "rebuild", "--warehouse", warehouse)
    assert (code, out.strip()) == (0, "rebuilt the tables of 0 runs and 1 evaluations")
    assert tables(warehouse) == tables(evaluated.warehouse)
    assert {f.subject.split()[0]: f for f in examine(warehouse)}["tables"].healthy is True
    folder = warehouse / "evaluations" / evaluated.evaluation_id
    lost = next(folder.glob("manifest-*.json"))
    lost.unlink()
    for path in folder.glob(f"*-{lost.stem[9:]}.parquet"):
        os.utime(path, (1, 1))
    mended = {f.subject.split()[0]: f for f in examine(warehouse, fix=True)}
    assert mended["evaluation"].text == "1 shards"
    assert mended["leftovers"].text == "3 files that killed writers left are deleted"


def test_the_command_prints_the_methods_and_where_the_report_is(
    tmp_path: Path, evaluated: Evaluated, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = audit_dict(
        tiny_model, evaluated.corpus, evaluated.warehouse, corpus={"rationale": "why"}, evaluation=SECTION
    )
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(data))
    overrides = ("--set", "evaluation.metrics=[faithfulness, plausibility]", "--warehouse", tmp_path / "w")
    code, out, err = command(capsys, "evaluate", path, *overrides)
    assert (code, err) == (0, "starting Prefect …\n")
    first, header, *rows, report, ask = out.splitlines()
    assert first.startswith(f"{evaluated.evaluation_id}: 10 documents, 0 failures, "), (
        "the place is no part of it"
    )
    assert header.split()[0] == "method"
    for column in ("comprehensiveness, delete", "comprehensiveness, mask", "token F1", "passes", "seconds"):
        assert column in header
    assert {row.split()[0] for row in rows} == {"ca-lig", "ig", "random"}
    [own] = [row for row in rows if row.split()[0] == "ca-lig"]
    [(mean, low, high)] = select(
        tmp_path / "w",
        "SELECT mean, low, high FROM evaluation_stats WHERE method = 'ca-lig' AND metric = 'comprehensiveness' "
        "AND removal = 'delete' AND share IS NULL",
    )
    assert f"{mean:.3f} ({low:.3f} to {high:.3f})" in own
    assert Path(report.removeprefix("report: file://")).is_file()
    assert "calig query @methods" in ask
    sql = "SELECT count(*) FROM evaluation_stats"
    assert command(capsys, "query", sql, "--format", "csv", "--warehouse", tmp_path / "w")[0] == 0
    code, out, _ = command(capsys, "query", "@methods", "--format", "csv", "--warehouse", tmp_path / "w")
    assert code == 0
    assert len(out.splitlines()) == 1 + 3 * 2


def test_wrong_input_is_one_line_and_2(
    tmp_path: Path, tiny_model: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(audit_dict(tiny_model, tiny_corpus, tmp_path / "w", evaluation=SECTION)))
    for override, complaint in (
        ("evaluation.methods=[gradient]", "evaluation.methods.0 is 'gradient', but should be one of"),
        ("corpus.rationale=why", "has no column 'why' for corpus.rationale; it has id, text, label, topic"),
        ("evaluation.removals=[blur]", "evaluation.removals: 'blur'"),
        ("method.target=neither", "method.target: 'neither' is not a class of the model"),
    ):
        code, _, err = command(capsys, "evaluate", path, "--set", override)
        assert code == 2
        [line] = [line for line in err.splitlines() if line != "starting Prefect …"]
        assert complaint in line


def test_too_many_failures_fail_the_gate_after_the_report(
    tmp_path: Path, tiny_model: Path, tiny_rows: list[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_parquet(tmp_path / "corpus.parquet", [*tiny_rows[:8], {**tiny_rows[0], "text": ""}])
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(audit_dict(tiny_model, corpus, tmp_path / "w", evaluation=SECTION)))
    code, _, err = command(capsys, "evaluate", path)
    assert code == 1
    assert "gates.max_failure_share: 1 of 9 documents failed (11.1%, limit 5.0%)" in err
    assert len(list((tmp_path / "w" / "evaluations").glob("*/report/index.html"))) == 1


def test_an_audit_and_an_evaluation_share_a_warehouse(
    audited: Audited, tmp_path: Path, tiny_model: Path, tiny_corpus: Path
) -> None:
    """The audit's schedule is used, its tables stay, and a run is chosen without touching evaluations."""
    warehouse = shutil.copytree(audited.warehouse, tmp_path / "w")
    before = select(warehouse, "FROM layer_stats ORDER BY ALL")
    evaluation_id, _ = evaluate(tiny_model, tiny_corpus, warehouse)
    assert select(warehouse, "FROM layer_stats ORDER BY ALL") == before
    both = "SELECT (SELECT count(*) FROM documents), (SELECT any_value(evaluation_id) FROM evaluations)"
    assert select(warehouse, both, audited.run_id) == [(24, evaluation_id)]
    alone, _ = evaluate(tiny_model, tiny_corpus, tmp_path / "alone")
    assert alone != evaluation_id, "the schedule is part of the key"
