"""Two audits at once in one warehouse, each a process: both end well and right, or one is told who is at work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from calig.config import parse_config
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import list_runs
from tests.material.processes import ROOT, wait_for_shards
from tests.material.tiers import extended
from tests.material.tiny import (
    Row,
    assert_same_tables,
    audit_dict,
    make_rows,
    run_manifest,
    save_model,
    shard_times,
    write_parquet,
)

SMALL = {"runtime": {"shard_documents": 4, "threads": 1}}
ROWS = make_rows(36, seed=8)
CORPORA = {"same": ROWS[:24], "other": ROWS[12:]}
"""Two corpora that have twelve documents in common."""


def _corpus(folder: Path, name: str) -> Path:
    rows: list[Row] = CORPORA[name]
    return write_parquet(folder / f"{name}.parquet", rows)


def _start(config: dict[str, Any], path: Path, server: str, processes: list[subprocess.Popen[str]]) -> Any:
    path.write_text(yaml.safe_dump(config))
    process = subprocess.Popen(
        [sys.executable, "-m", "calig", "audit", str(path)],
        env=os.environ | {"PREFECT_API_URL": server},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    processes.append(process)
    return process


def _ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """The exit code, and what it said but for Prefect's log."""
    _, errors = process.communicate(timeout=300)
    return process.returncode, [line for line in errors.splitlines() if line.startswith("calig: ")]


def _run_of(warehouse: Path, name: str) -> str:
    [run] = [
        run.run_id
        for run in list_runs(Warehouse.open(warehouse))
        if (run.name, run.status) == (name, "complete")
    ]
    return run


def _check(warehouse: Path, config: dict[str, Any], alone: Path) -> None:
    """Compare an audit's tables with those that it has in a warehouse of its own."""
    from flows.audit import audit

    run_id = audit(parse_config(config | {"warehouse": str(alone)})).run_id
    assert_same_tables(warehouse, _run_of(warehouse, config["name"]), alone, run_id, 5e-4)


@extended("four commands, each a process that imports all")
@pytest.mark.parametrize("second", ["same", "other"])
def test_a_second_audit_of_the_same_model_is_told_who_is_at_work(
    second: str, tmp_path: Path, tiny_model: Path, prefect_server: str, processes: list[subprocess.Popen[str]]
) -> None:
    """The first is held up in the midst of its shards while the second tries: same audit, or another corpus."""
    warehouse = tmp_path / "w"
    configs = {
        name: audit_dict(tiny_model, _corpus(tmp_path, corpus), warehouse, **SMALL) | {"name": name}
        for name, corpus in (("one", "same"), ("two", second))
    }
    one = _start(configs["one"], tmp_path / "one.yaml", prefect_server, processes)
    wait_for_shards(warehouse, 1, one)
    one.send_signal(signal.SIGSTOP)
    before = shard_times(warehouse)
    two = _start(configs["two"], tmp_path / "two.yaml", prefect_server, processes)
    code, [line] = _ended(two)
    one.send_signal(signal.SIGCONT)
    assert code == 2
    assert f"warehouse {warehouse}: another writer is at work (pid {one.pid} on " in line
    assert line.endswith("wait until it has finished, or stop it, and try again")
    assert _ended(one)[0] == 0
    assert {name: shard_times(warehouse)[name] for name in before} == before

    assert _ended(_start(configs["two"], tmp_path / "two.yaml", prefect_server, processes))[0] == 0
    manifest = run_manifest(warehouse, _run_of(warehouse, "two"))
    assert (manifest["attributed"], manifest["reused"]) == ((0, 24) if second == "same" else (12, 12))
    for name in configs:
        _check(warehouse, configs[name], tmp_path / f"alone-{name}")


@extended("two commands, each a process that imports all")
def test_audits_of_two_models_side_by_side(
    tmp_path: Path, tiny_model: Path, prefect_server: str, processes: list[subprocess.Popen[str]]
) -> None:
    """Each has shards of its own, and they take turns at the tables."""
    models = {"one": tiny_model, "two": save_model(tmp_path / "model", seed=7)}
    corpus = _corpus(tmp_path, "same")
    configs = {
        name: audit_dict(model, corpus, tmp_path / "w", **SMALL) | {"name": name}
        for name, model in models.items()
    }
    started = [
        _start(config, tmp_path / f"{name}.yaml", prefect_server, processes)
        for name, config in configs.items()
    ]
    assert [_ended(process)[0] for process in started] == [0, 0]
    for name, config in configs.items():
        _check(tmp_path / "w", config, tmp_path / f"alone-{name}")
