"""Runs whose process died: they would say for ever that they are under way.

While a run is under way its process holds the kernel's lock (flock) on `runs/<run id>/.lock`, which names the
host and goes with the process however that ends, and touches the file every `BEAT_SECONDS`. A run that says that it is
under way (`runs.UNDER_WAY`) is lost

- on the host that its lock names: when the lock is free;
- on any other, where the lock may not be seen through a shared file system: when the file was last touched
  `SILENT_SECONDS` ago or longer: the hosts' clocks have to agree that far;
- anywhere: when there is no such file.

In a warehouse on an object store no file of the kind is seen elsewhere: there a lease says that a run is under way.

A lost run that was still `running` is marked failed. One that was `attributed` or `aggregated` is stopped: what was
computed is all there, and the next audit takes it over and brings it to its end (`calig.finishing`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import IO

from calig.errors import InputError
from calig.warehouse.layout import Warehouse
from calig.warehouse.mirror import Mirror
from calig.warehouse.pins import pinned
from calig.warehouse.runs import UNDER_WAY, RunManifest, end_run, list_runs, read_run

BEAT_SECONDS = 30.0
SILENT_SECONDS = 300.0
GLANCE_SECONDS = 1.0
"""How long one who asks whether a run is lost may hold its lock."""


class Hold:
    """What shows that a run is under way in this process, until `release` or the process's end.

    Pickled, it becomes None: it stays with the process that took it.
    """

    def __init__(self, folder: Path, mirror: Mirror | None = None) -> None:
        """Take the lock of a run's folder and, in a warehouse on an object store, the lease of its `mirror`.

        Raises
        ------
        BlockingIOError, InputError
            Another process has them, or another part of this one.
        """
        path = folder / ".lock"
        with contextlib.ExitStack() as held:
            held.enter_context(pinned(folder))  # whoever takes it for lost meanwhile does not prune it
            if mirror is not None:
                held.enter_context(mirror.lease(_lease(folder), wait=0))
            stream = held.enter_context(path.open("a+"))
            _lock(stream)
            stream.truncate(0)
            json.dump({"pid": os.getpid(), "host": socket.gethostname()}, stream)
            stream.flush()
            self._held = held.pop_all()
        self._stop = threading.Event()

        def beat() -> None:
            while not self._stop.wait(BEAT_SECONDS):  # so the thread keeps the hold where nobody else does
                with contextlib.suppress(OSError):
                    os.utime(path)

        threading.Thread(target=beat, daemon=True).start()

    def release(self) -> None:
        """Let go of the run's lock; once more does nothing."""
        self._stop.set()
        self._held.close()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


def _lock(stream: IO[str]) -> None:
    """Lock a run's file; one who but asks whether it is lost locks it for a glance."""
    deadline = time.monotonic() + GLANCE_SECONDS
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def is_lost(warehouse: Warehouse, run: RunManifest) -> bool:
    """Whether a run says that it is under way and is not."""
    folder = warehouse.run(run.run_id)
    if run.status not in UNDER_WAY or _shows_life(folder / ".lock"):
        return False
    if warehouse.mirror is not None and warehouse.mirror.leased(_lease(folder)):
        return False
    warehouse.files.fetch(folder)
    return read_run(warehouse, run.run_id).status in UNDER_WAY  # it may have come to its end meanwhile


def close_lost(warehouse: Warehouse, name: str | None = None) -> list[str]:
    """Mark lost runs that were running as failed, of one audit or all; return their ids.

    The shards that they finished stay, and are used.
    """
    lost = [
        run
        for run in list_runs(warehouse)
        if run.status == "running" and name in (None, run.name) and is_lost(warehouse, run)
    ]
    for run in lost:
        end_run(warehouse, run, "failed")
    return [run.run_id for run in lost]


def stopped_runs(warehouse: Warehouse) -> list[RunManifest]:
    """Return the lost runs of which all results are there, oldest first."""
    return [run for run in list_runs(warehouse) if run.is_attributed and is_lost(warehouse, run)]


def take_over(warehouse: Warehouse, run_id: str) -> tuple[RunManifest, Hold] | None:
    """Hold a stopped run in this process; return its manifest as it is now, too. None where another was faster."""
    if not is_lost(warehouse, read_run(warehouse, run_id)):
        return None
    try:
        hold = Hold(warehouse.run(run_id), warehouse.mirror)
    except (BlockingIOError, InputError):
        return None
    run = read_run(warehouse, run_id)
    if run.status not in UNDER_WAY:  # it came to its end before it was held
        hold.release()
        return None
    return run, hold


def _lease(folder: Path) -> str:
    return f"run-{folder.name}"


def _shows_life(path: Path) -> bool:
    """Whether a run's lock is held or, on another host, was touched of late."""
    try:
        stream = path.open()
    except FileNotFoundError:
        return False
    with stream:
        try:
            host = json.load(stream)["host"]
        except (ValueError, KeyError, TypeError):  # it started just now, or died just then
            host = None
        if host != socket.gethostname():
            return time.time() - os.fstat(stream.fileno()).st_mtime < SILENT_SECONDS
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
