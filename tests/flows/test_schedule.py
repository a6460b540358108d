"""Nights on a real Prefect server on real PostgreSQL: scheduled, failed, told of, killed, resumed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.material import session
from tests.material.deployments import SECRET, deploy, deployment, scheduled, write_audit
from tests.material.services import (
    NEEDS_POSTGRES,
    ROOT,
    Server,
    ended,
    mailbox,
    prefect_on_postgres,
    wait_for,
    webhook,
)
from tests.material.tiers import extended
from tests.material.tiny import run_manifest, save_model, select, shard_times

pytestmark = [*NEEDS_POSTGRES, extended("a schedule by the minute, and the time until a dead run is noticed")]
EVERY_MINUTE = "* * * * *"


@pytest.fixture(scope="module")
def server() -> Server:
    return prefect_on_postgres()


@pytest.fixture(scope="module")
def model(server: Server) -> Path:
    """The tiny model, in a folder whose name only the environment variable MODEL knows."""
    return Path(session.once("schedule-model", lambda _: str(save_model(server.folder / SECRET))))


@contextmanager
def _worker(server: Server, model: Path) -> Iterator[int]:
    """A worker for the pool `calig`, that knows ${MODEL}; its log is worker.log in the server's folder."""
    environment = server.environment | {"MODEL": str(model), "PREFECT_WORKER_QUERY_SECONDS": "2"}
    arguments = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "calig"]
    with ended(arguments, server.folder / "worker.log", env=environment) as process:
        yield process.pid


def _at_work_in(folder: Path) -> list[int]:
    """Processes of flow runs that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder and b"prefect" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def _wait_for_state(server: Server, name: str, state: str, seconds: float, **filters: Any) -> dict[str, Any]:
    def find() -> dict[str, Any] | None:
        return next((run for run in server.runs(name, **filters) if run["state_name"] == state), None)

    try:
        return wait_for(find, seconds, f"a run of {name} to be {state}")
    except AssertionError as error:
        log = (server.folder / "worker.log").read_text()[-5000:]
        states = [(run["state_name"], run["state"].get("message")) for run in server.runs(name)]
        raise AssertionError(f"{error}; there are {states}; the worker's log:\n{log}") from None


def test_nights(server: Server, model: Path, tmp_path: Path) -> None:
    slow = {"method": {"steps": 150}, "runtime": {"shard_documents": 4, "workers": 1}}
    killed_night = write_audit(tmp_path / "slow", "nightly", 60, **slow)
    failing_night = write_audit(tmp_path / "gate", "gated", 8, bad=1)
    warehouse = killed_night.parent / "nightly-warehouse"
    deploy(server, killed_night, "--cron", EVERY_MINUTE)
    try:
        with _worker(server, model) as worker:
            wait_for(lambda: len(shard_times(warehouse)) >= 2, 150, "two shards", every=0.005)
            for pid in (worker, *_at_work_in(killed_night.parent)):  # the machine goes down
                os.kill(pid, signal.SIGKILL)
        before = shard_times(warehouse)
        assert 2 <= len(before) < 15
        [first] = [run for run in server.runs("nightly") if run["state_name"] == "Running"]  # a zombie
        assert first["auto_scheduled"], "the schedule started it"
        listed = server.command("calig", "runs", "--warehouse", str(warehouse), cwd=tmp_path)
        assert listed.stdout.splitlines()[1].split()[1] == "lost"
        [lost] = [path.parent.name for path in warehouse.glob("runs/*/manifest.json")]

        with _worker(server, model), webhook() as (address, calls), mailbox() as (port, mails):
            variables = {
                "CALIG_WEBHOOK_URL": f"{address}/{SECRET}",
                "CALIG_MAIL_URL": f"mailto://127.0.0.1:{port}?from=calig@example.com&to=owner@example.com",
            }
            done = server.command("infra.blocks", cwd=ROOT, **variables)
            assert done.stdout.split() == ["custom-webhook/calig", "slack-webhook/calig-mail"], done.stderr
            blocks = [part for block in done.stdout.split() for part in ("--notify", block)]
            deploy(server, failing_night, "--cron", EVERY_MINUTE, *blocks)
            wait_for(lambda: scheduled(server, "gated"), 60, "the scheduler")
            _age_schedule(server, "gated")

            failed = _wait_for_state(server, "gated", "Failed", 150)
            assert failed["auto_scheduled"]
            deploy(server, failing_night, "--cron", EVERY_MINUTE, *blocks, "--paused")
            wait_for(lambda: calls and mails, 60, "the notifications")
            reason = "gates.max_failure_share: 1 of 9 documents failed (11.1%, limit 5.0%)"
            link = f"{server.environment['PREFECT_UI_URL']}/runs/flow-run/{failed['id']}"
            assert calls[0]["subject"] == "calig audit gated: Failed"
            assert reason in calls[0]["text"]
            assert calls[0]["text"].endswith(link)
            assert "Subject: calig audit gated: Failed" in mails[0]
            assert link in mails[0].replace("=\r\n", "")

            # by the form, with another gate, once no run of the schedule is in its way
            final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
            wait_for(
                lambda: all(run["state_type"] in final for run in server.runs("gated")), 120, "a free place"
            )
            gated = deployment(server, "gated")
            parameters = gated["parameters"]
            parameters["config"]["gates"] = {"max_failure_share": {"limit": 0.5}}
            path = f"/deployments/{gated['id']}/create_flow_run"
            by_form = server.api("POST", path, {"parameters": parameters, "state": {"type": "SCHEDULED"}})
            passed = _wait_for_state(server, "gated", "Completed", 120)
            assert passed["id"] == by_form["id"]
            assert all(passed["id"] not in call["text"] for call in calls), (
                "nobody is told of a run that passes"
            )

            crashed = _wait_for_state(server, "nightly", "Crashed", 150)
            assert crashed["id"] == first["id"]
            assert "gives no sign of life" in crashed["state"]["message"]
            resumed = _wait_for_state(server, "nightly", "Completed", 150)
            children = {"flow_runs": {"parent_flow_run_id": {"any_": [first["id"]]}}}
            within = {
                run["name"]: run["state_name"] for run in server.api("POST", "/flow_runs/filter", children)
            }
            assert within == {"ingest nightly": "Completed", "attribute nightly": "Crashed"}
            skipped = [run for run in server.runs("nightly") if run["state_name"] == "Cancelled"]
            assert skipped, "one run at a time, until it is known to be lost"
            assert all(run["state"]["message"] == "Deployment concurrency limit reached." for run in skipped)
            assert resumed["auto_scheduled"]
    finally:
        for pid in (*_at_work_in(killed_night.parent), *_at_work_in(failing_night.parent)):
            os.kill(pid, signal.SIGKILL)

    after = shard_times(warehouse)
    assert {name: after.get(name) for name in before} == before, "what was finished is not done again"
    assert len(after) == 15
    assert run_manifest(warehouse, lost)["status"] == "failed"
    second = sorted(path.parent.name for path in warehouse.glob("runs/*/manifest.json"))[1]
    assert run_manifest(warehouse, second)["attributed"] == 60 - 4 * len(before)
    shown = select(warehouse, "SELECT count(*), count(DISTINCT doc_key) FROM documents")
    assert shown == [(60, 60)]
    assert SECRET not in server.dump(), "what variables stand for stays with the worker"


def _age_schedule(server: Server, name: str) -> None:
    """Make the runs entered so far look as if they had been entered ten minutes ago.

    Prefect orders the events of a run by what each follows, and waits 15 minutes for one that never comes: that a
    run was scheduled, if this is less than 5 minutes before it starts. A nightly run is entered the day before.
    """
    server.sql(
        "UPDATE flow_run_state SET timestamp = timestamp - interval '10 minutes' WHERE type = 'SCHEDULED' AND "
        "flow_run_id IN (SELECT flow_run.id FROM flow_run JOIN deployment ON deployment.id = deployment_id "
        f"WHERE deployment.name = '{name}')"
    )
