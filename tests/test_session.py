"""Set-up that workers share is made once, and its servers end with the session, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.material import session
from tests.material.services import ROOT, wait_for

SERVE = """
import os, sys
from tests.material import session
session.begin()
print(session.folder(), session.serve("one", ["sleep", "600"], session.folder() / "log", os.environ), flush=True)
sys.stdin.read()
session.end()
"""


def begin() -> tuple[subprocess.Popen[str], Path, int]:
    """A session in a process of its own that serves something; its folder and the server's process."""
    started = subprocess.Popen(
        [sys.executable, "-c", SERVE], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    place, pid = started.stdout.readline().split()
    return started, Path(place), int(pid)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_a_server_ends_with_its_session() -> None:
    started, place, pid = begin()
    assert lives(pid)
    started.communicate("")
    wait_for(lambda: not lives(pid), 30, "the server's end", every=0.05)
    assert not place.exists()


def test_a_server_ends_with_a_session_that_is_killed() -> None:
    started, place, pid = begin()
    started.send_signal(signal.SIGKILL)
    started.wait()
    wait_for(lambda: not lives(pid), 30, "the server's end", every=0.05)
    for path in place.iterdir():
        path.unlink()
    place.rmdir()


def test_what_is_shared_is_made_once_whoever_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIG_TESTS_FOLDER", str(tmp_path))
    made: list[Path] = []

    def make(folder: Path) -> list[str]:
        made.append(folder)
        time.sleep(0.2)
        return [str(folder), str(os.getpid())]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: session.once("thing", make), range(4)))
    assert found == [[str(tmp_path / "thing"), str(os.getpid())]] * 4
    assert len(made) == 1


def test_what_failed_is_made_again_in_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALIG_TESTS_FOLDER", str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        session.once("thing", fail)
    assert session.once("thing", lambda folder: [path.name for path in folder.iterdir()]) == []
