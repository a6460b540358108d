"""Processes that tests of flows start, and end."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to be ended after the test, with the Prefect servers that they started."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()
    home = f"PREFECT_HOME={tmp_path}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = home in (folder / "environ").read_bytes()
        except OSError:
            continue
        if ours and int(folder.name) != os.getpid():
            os.kill(int(folder.name), signal.SIGKILL)
