"""Two audits at once in one warehouse, each a process: both end well and right; under one key, one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
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
    with path.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "calig", "audit", str(path)],
            env=os.environ | {"PREFECT_API_URL": server, "COLUMNS": "500"},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=log,
            text=True,
        )
    processes.append(process)
    return process


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
def test_a_second_audit_of_the_same_model_waits_for_the_first(
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
    deadline = time.monotonic() + 300
    while "this audit waits until it has finished" not in (said := (warehouse / "calig.log").read_text()):
        assert two.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
    assert f"another writer is at work (pid {one.pid} on " in said
    one.send_signal(signal.SIGCONT)
    assert [process.wait(timeout=300) for process in (one, two)] == [0, 0]
    assert {name: shard_times(warehouse)[name] for name in before} == before

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
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    for name, config in configs.items():
        _check(tmp_path / "w", config, tmp_path / f"alone-{name}")
