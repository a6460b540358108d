"""Nights without documents, or with very few: the run says so, and the next one is compared with an earlier one."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calig.config import AuditConfig, parse_config
from calig.errors import GateError, InputError
from calig.evaluating import stages as evaluating
from calig.gates import enforce
from calig.planning.stages import make_plan
from calig.warehouse.layout import Warehouse
from tests.material.nights import audit_night
from tests.material.tiers import extended
from tests.material.tiny import Row, audit_dict, make_rows, run_manifest, select

GATES = {
    "drift": True,
    "max_class_psi": 0.5,
    "min_accuracy": 0.0,
    "max_accuracy_drop": 1.0,
    "max_watched_share": {"praise": 0.9},
    "sql": [{"name": "long", "sql": "SELECT 1 FROM documents WHERE tokens > 1000"}],
}


COLUMNS = ("id", "text", "label", "topic")


def write(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows, of which there may be none, as the file's name says."""
    if path.suffix == ".csv":
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        kinds = dict.fromkeys(COLUMNS, pa.string()) | {"label": pa.int64()}
        pq.write_table(pa.Table.from_pylist(list(rows), pa.schema(list(kinds.items()))), path)
    return path


def asked(model: Path, corpus: Path, folder: Path, **gates: Any) -> AuditConfig:
    data = audit_dict(model, corpus, folder / "w", method={"steps": 4}, gates=GATES | gates)
    return parse_config(data | {"compare_to": ["previous"], "watch": {"praise": ["good"]}})


@extended("three audits for each format; the night below is audited in any case")
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_night_without_documents(tmp_path: Path, tiny_model: Path, ending: str) -> None:
    """Four nights, of 24 documents, none, 24 others and one: what each is compared with, and what its gates say."""
    rows = make_rows(49, seed=3)
    nights = [rows[:24], [], rows[24:48], rows[48:]]
    runs, states = [], []
    for number, own in enumerate(nights):
        corpus = write(tmp_path / f"{number}.{ending}", own)
        run_id, outcomes = audit_night(
            asked(tiny_model, corpus, tmp_path), report=number == 1 or ending != "csv"
        )
        enforce(run_id, outcomes)
        runs.append(run_id)
        states.append({one.gate: one.state for one in outcomes})
    assert set(states[1].values()) == {"not checked"}
    assert [state["drift"] for state in states] == ["not checked", "not checked", "holds", "not checked"]
    assert [state["min_accuracy"] for state in states] == ["holds", "not checked", "holds", "holds"]
    manifest = run_manifest(tmp_path / "w", runs[1])
    assert (manifest["status"], manifest["corpus"]["documents"]) == ("complete", 0)
    page = (tmp_path / "w" / "runs" / runs[1] / "report" / "index.html").read_text()
    assert "No documents" in page
    assert "There are no documents: the corpus of this run has no row." in page
    assert "every document was explained" not in page
    found = select(tmp_path / "w", "SELECT run_id, reference_id, verdict FROM comparisons", "all")
    compared = {run_id: (reference, verdict) for run_id, reference, verdict in found}
    assert compared[runs[1]] == (runs[0], "there are no documents to compare")
    assert compared[runs[2]][0] == runs[0]
    assert f"{runs[1]} had too few documents to be compared with" in compared[runs[2]][1]
    assert compared[runs[3]][0] == runs[2]
    # no schedule is learnt from nothing, and what the empty night went by is nobody else's
    keys = [path.stem for path in (tmp_path / "w" / "schedules").iterdir()]
    assert not any(key.endswith("-default") for key in keys)


def test_a_first_night_without_documents(tmp_path: Path, tiny_model: Path) -> None:
    """Nothing is learnt from it; with gates.unchecked: fail it fails the audit; plans and evaluations say why not."""
    corpus = write(tmp_path / "0.csv", [])
    config = asked(tiny_model, corpus, tmp_path, unchecked="fail")
    run_id, outcomes = audit_night(config)
    with pytest.raises(GateError) as caught:
        enforce(run_id, outcomes)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "gates.max_failure_share: the run has no documents; not checked, which fails the audit (gates.unchecked: fail)"
    )
    assert not any("drift" in line or "psi" in line for line in lines)  # there is no earlier run
    warehouse = Warehouse.open(config.warehouse)
    for ask in (
        lambda: make_plan(warehouse, config, None, print),
        lambda: make_plan(warehouse, config, 10, print),
    ):
        with pytest.raises(InputError, match="has no rows: there is nothing to plan from"):
            ask()
    card = evaluating.stages.describe_model(config)
    with pytest.raises(InputError, match="has no rows: there is nothing to evaluate"):
        evaluating.start_evaluation(
            warehouse, config, card, evaluating.stages.bring_in(warehouse, config, card)
        )
    write(tmp_path / "0.csv", make_rows(24, seed=3))
    later, outcomes = audit_night(asked(tiny_model, corpus, tmp_path, unchecked="fail"), report=False)
    enforce(later, outcomes)  # no earlier run has a document: as on a first night
    schedules = sorted(path.stem for path in (tmp_path / "w" / "schedules").iterdir())
    assert len(schedules) == 2
    assert schedules[1] == f"{schedules[0]}-default"
