"""An audit shared out on a work pool: a real Prefect server and worker, ranges as flow runs, one of them killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from calig.config import load_config
from calig.warehouse.runs import list_runs
from tests.material import session
from tests.material.heads import run_stages
from tests.material.services import NEEDS_POSTGRES, Server, ended, prefect_on_postgres, wait_for
from tests.material.tiers import extended
from tests.material.tiny import (
    assert_same_tables,
    audit_dict,
    make_rows,
    run_manifest,
    save_model,
    shard_times,
    write_parquet,
)

pytestmark = [*NEEDS_POSTGRES, extended("workers that start a process for each of an audit's parts")]
SECRET = "k3Vw-never-to-be-stored"
DOCUMENTS, SHARD = 60, 10
SLOW = {"steps": 150}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with two pools, of which `audits` has a worker, and `ranges` has none."""
    started = prefect_on_postgres()
    for pool in ("audits", "ranges"):
        asked = ("work-pool", "create", pool, "--type", "process", "--overwrite")
        made = started.command("prefect", *asked, cwd=started.folder)
        assert made.returncode == 0, made.stderr
    session.once("pool-model", lambda _: str(save_model(started.folder / SECRET)))
    with _worker(started, "audits"):
        yield started


def _worker(server: Server, pool: str) -> AbstractContextManager[Any]:
    """A worker of a pool that knows ${MODEL}."""
    model = str(server.folder / SECRET)
    environment = server.environment | {"MODEL": model, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
    return ended(command, server.folder / "worker.log", env=environment)


def _write(server: Server, folder: Path, **runtime: Any) -> Path:
    """An audit's YAML with relative paths, the model in ${MODEL}."""
    write_parquet(folder / "corpus.parquet", make_rows(DOCUMENTS, seed=3))
    data = audit_dict(Path("${MODEL}"), Path("corpus.parquet"), Path("warehouse"), method=SLOW)
    data["runtime"] = {"shard_documents": SHARD, "threads": 1, "retries": 1, **runtime}
    path = folder / "pooled.yaml"
    path.write_text(yaml.safe_dump(data | {"name": folder.name}))
    return path


def _run(server: Server, config: Path) -> str:
    """Start the audit, as a deployment's schedule would; give the flow run's id."""
    options = ("--cron", "0 2 * * *", "--paused", "--pool", "audits")
    done = server.command("calig", "deploy", config.name, *options, cwd=config.parent, MODEL="unknown here")
    assert done.returncode == 0, done.stderr
    deployment = server.api("GET", f"/deployments/name/calig-audit/{config.parent.name}")
    path = f"/deployments/{deployment['id']}/create_flow_run"
    return str(server.api("POST", path, {"state": {"type": "SCHEDULED"}})["id"])


def _state(server: Server, flow_run: str) -> dict[str, Any]:
    state: dict[str, Any] = server.api("GET", f"/flow_runs/{flow_run}")["state"]
    return state


def _ended(server: Server, flow_run: str) -> dict[str, Any]:
    """The state in which a flow run ends."""
    final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

    def find() -> dict[str, Any] | None:
        state = _state(server, flow_run)
        return state if state["type"] in final else None

    try:
        return wait_for(find, 300, "the end of the audit")
    except AssertionError as error:
        raise AssertionError(f"{error}:\n{(server.folder / 'worker.log').read_text()[-5000:]}") from None


def _process_of(flow_run: str) -> int | None:
    """The process that executes a flow run."""
    wanted = f"PREFECT__FLOW_RUN_ID={flow_run}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                return int(process.name)
        except OSError:
            continue
    return None


def _warnings(server: Server) -> list[str]:
    """The warnings that flow runs have logged."""
    found = server.api("POST", "/logs/filter", {"logs": {"level": {"ge_": 30}}})
    return [entry["message"] for entry in found]


@pytest.fixture
def late(server: Server, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """An audit under way on `ranges`, whose worker comes when the want of one has been reported; its flow run."""
    config = _write(server, tmp_path / "killed", engine="pool", work_pool="ranges", workers=2)
    audit = _run(server, config)
    wanted = "work pool ranges: no worker has taken any of the 2 ranges that are due"
    wait_for(lambda: any(line.startswith(wanted) for line in _warnings(server)), 200, "a warning")
    with _worker(server, "ranges"):
        yield config, audit


def test_a_killed_range_is_run_again_and_the_tables_are_those_of_one_process(
    server: Server, late: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, audit = late
    folder = config.parent
    warehouse = folder / "warehouse"
    wait_for(lambda: shard_times(warehouse), 200, "a shard", every=0.01)
    first = next(run for run in server.runs(folder.name) if "shards 1 to " in run["name"])
    pid = _process_of(first["id"])
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    before = shard_times(warehouse)

    state = _ended(server, audit)
    assert state["type"] == "COMPLETED", state
    ranges = [run for run in server.runs(folder.name) if run["id"] != audit]
    states = {run["name"].partition(": ")[2]: run["state_name"] for run in ranges}
    assert states["shards 1 to 2"] == "Crashed"
    again = [name for name in states if name.endswith(", try 2")]
    assert len(again) == 1
    assert again[0].removesuffix(", try 2") in ("shards 1 to 1", "shards 2 to 2", "shards 1 to 2")
    assert sorted(set(states.values())) == ["Completed", "Crashed"]
    assert len(states) == 6, "five ranges of 2, 1, 1, 1 and 1 shards, and one again"
    after = shard_times(warehouse)
    assert len(after) == DOCUMENTS // SHARD
    assert {name: after[name] for name in before} == before, "what was finished is not done again"

    [run] = _runs(warehouse)
    for one in ranges:
        assert set(one["parameters"]) == {"audit_run", "run_id", "label", "shards"}
        assert one["parameters"]["audit_run"] == audit
        assert one["parameters"]["run_id"] == run
    assert SECRET not in server.dump(), "what variables stand for stays with the worker"
    assert run_manifest(warehouse, run)["attributed"] == DOCUMENTS

    monkeypatch.setenv("MODEL", str(server.folder / SECRET))
    monkeypatch.chdir(folder)
    overrides = ("runtime.engine=auto", "runtime.work_pool=", "runtime.workers=1", "warehouse=alone")
    alone = run_stages(load_config(config, overrides))
    assert_same_tables(warehouse, run, folder / "alone", alone.run_id)


def _runs(warehouse: Path) -> list[str]:
    from calig.warehouse.layout import Warehouse

    return [run.run_id for run in list_runs(Warehouse.open(warehouse, create=False))]


def test_a_pool_that_is_not_there_fails_the_audit_at_once(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "poolless"
    config = _write(server, folder, engine="pool", work_pool="nowhere", workers=2)
    state = _ended(server, _run(server, config))
    assert state["type"] == "FAILED"
    assert "runtime.work_pool: the Prefect server knows no pool nowhere" in state["message"]
