"""Runs whose process died: told from those under way by the kernel's lock, or by silence."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calig.cli import main
from calig.doctor import examine
from calig.files import write_json
from calig.warehouse import lost
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import RunManifest, read_run

ROOT = Path(__file__).parents[3]


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse.open(tmp_path / "w")


def _write(warehouse: Warehouse, run_id: str, name: str, status: str) -> RunManifest:
    run = RunManifest(
        run_id=run_id,
        name=name,
        status=status,
        started="2026-01-01T02:00:00+00:00",
        finished=None if status == "running" else "2026-01-01T03:00:00+00:00",
        model={"id": "m", "revision": None, "hash": "h", "classes": ["a", "b"]},
        corpus={"key": "k", "source": "reviews.parquet", "documents": 3},
        attribution_key="k",
        method={"weight": 0.5},
        depths=2,
        attributed=0,
        reused=0,
        config={},
        versions={},
        timings={},
    )
    write_json(warehouse.run(run_id) / "manifest.json", run.to_json())
    return run


def _running(warehouse: Warehouse, run_id: str, name: str = "nightly") -> RunManifest:
    return _write(warehouse, run_id, name, "running")


def _held_elsewhere(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the run of a folder, until it is killed."""
    code = (
        "import sys, time, pathlib; from calig.warehouse import lost; lost.Hold(pathlib.Path(sys.argv[1])); "
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code + "print('held', flush=True); time.sleep(60)", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_run_is_lost_once_its_process_is_killed(
    warehouse: Warehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = _running(warehouse, "20260101-020000-a"), _running(warehouse, "20260101-020000-b")
    held, held_other = (_held_elsewhere(warehouse.run(one.run_id)) for one in (run, other))
    try:
        assert not lost.is_lost(warehouse, run)
        held.kill()
        held.wait()
        assert lost.is_lost(warehouse, run)
        assert not lost.is_lost(warehouse, other)
        with pytest.raises(SystemExit):
            main(["runs", "--warehouse", str(warehouse.root)])
        shown = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]}
        assert shown == {run.run_id: "lost", other.run_id: "running"}
        assert read_run(warehouse, run.run_id).status == "running", "looking changes nothing"

        found = [finding for finding in examine(warehouse.root) if finding.subject == "lost"]
        assert [(one.healthy, one.text.split(":")[0]) for one in found] == [(None, run.run_id)]
        mended = [finding for finding in examine(warehouse.root, fix=True) if finding.subject == "lost"]
        assert [(one.healthy, one.text.split()[-1]) for one in mended] == [(True, run.run_id)]
        closed = read_run(warehouse, run.run_id)
        assert (closed.status, closed.finished is None) == ("failed", False)
        assert read_run(warehouse, other.run_id).status == "running"
        assert not [finding for finding in examine(warehouse.root) if finding.subject == "lost"]
    finally:
        for process in (held, held_other):
            process.kill()
            process.wait()


def test_on_another_host_silence_counts_and_not_the_lock(warehouse: Warehouse) -> None:
    run = _running(warehouse, "20260101-020000-a")
    place = warehouse.run(run.run_id) / ".lock"
    place.write_text(json.dumps({"pid": 1, "host": f"not-{socket.gethostname()}"}))
    assert not lost.is_lost(warehouse, run)
    then = time.time() - lost.SILENT_SECONDS + 30
    os.utime(place, (then, then))
    assert not lost.is_lost(warehouse, run)
    os.utime(place, (then - 60, then - 60))
    assert lost.is_lost(warehouse, run)


def test_the_lock_is_touched_while_it_is_held(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost, "BEAT_SECONDS", 0.05)
    run = _running(warehouse, "20260101-020000-a")
    folder = warehouse.run(run.run_id)
    held = lost.Hold(folder)
    os.utime(folder / ".lock", (1, 1))
    deadline = time.monotonic() + 10
    while (folder / ".lock").stat().st_mtime == 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not lost.is_lost(warehouse, run), "held by this very process"
    assert pickle.loads(pickle.dumps(held)) is None, "it stays with this process"
    held.release()
    assert lost.is_lost(warehouse, run), "let go of while it says running"
    held.release()  # once more does nothing
    time.sleep(0.15)
    os.utime(folder / ".lock", (1, 1))
    time.sleep(0.2)
    assert (folder / ".lock").stat().st_mtime == 1, "no longer touched"


def test_only_running_ones_of_the_audit_are_closed(warehouse: Warehouse) -> None:
    mine, other = _running(warehouse, "20260101-020000-a"), _running(warehouse, "20260102-020000-b", "weekly")
    done = _write(warehouse, "20260103-020000-c", "nightly", "complete")
    assert lost.close_lost(warehouse, "nightly") == [mine.run_id]
    assert read_run(warehouse, other.run_id).status == "running"
    assert read_run(warehouse, done.run_id) == done
    assert lost.close_lost(warehouse) == [other.run_id]
