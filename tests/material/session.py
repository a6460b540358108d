"""Set-up that all workers of a test session share: the first that needs it makes it, under a lock.

`once("name", make)` calls `make(folder)` in one process and gives its result, plain JSON, to all. A server that `make`
starts with `serve` runs until the session ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

T = TypeVar("T")
_FOLDER, _OWNER = "CALIG_TESTS_FOLDER", "CALIG_TESTS_OWNER"
"""Environment variables that pytest's workers inherit: the session's folder, and the process that it ends with."""


def begin() -> Path:
    """Make the session's folder; the process that collects results does this before it starts workers."""
    os.environ |= {_FOLDER: tempfile.mkdtemp(prefix="calig-tests-"), _OWNER: str(os.getpid())}
    os.environ["CALIG_CACHE"] = str(folder() / "cache")
    return folder()


def folder() -> Path:
    """The session's folder."""
    return Path(os.environ[_FOLDER])


def delete_at_end(path: Path) -> None:
    """Have `end` delete a folder that cannot lie in the session's."""
    (folder() / f"{path.name}.delete").write_text(str(path))


def end() -> float:
    """Stop the session's servers, delete its folders, and return the seconds of CPU that the servers have used."""
    seconds = 0.0
    for path in folder().glob("*.pid"):
        group = int(path.read_text())
        seconds += _cpu_seconds(group)
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for path in folder().glob("*.delete"):
        shutil.rmtree(path.read_text(), ignore_errors=True)
    shutil.rmtree(folder(), ignore_errors=True)
    return seconds


def once(name: str, make: Callable[[Path], T]) -> T:
    """What `make` returned for an empty folder of that name; it is called in one worker alone."""
    result = folder() / f"{name}.json"
    with FileLock(folder() / f"{name}.lock"):
        if not result.exists():
            place = folder() / name
            shutil.rmtree(place, ignore_errors=True)  # of a worker that failed
            place.mkdir(parents=True)
            result.write_text(json.dumps(make(place)))
    found: T = json.loads(result.read_text())
    return found


def serve(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str], **options: Any
) -> int:
    """Start a server that is killed when the session ends, and return the number of its process and group."""
    with log.open("ab") as stream:
        started = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=stream, start_new_session=True, **options
        )
    (folder() / f"{name}.pid").write_text(str(started.pid))
    watch = 'while kill -0 "$0" 2>/dev/null; do sleep 2; done; kill -s KILL -- "-$1" 2>/dev/null'  # if we are killed
    subprocess.Popen(
        ["/bin/sh", "-c", watch, os.environ[_OWNER], str(started.pid)],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return started.pid


def _cpu_seconds(group: int) -> float:
    """CPU time of the living processes of a group and of those that they have waited for; 0 where there is no /proc."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
