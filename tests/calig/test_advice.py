"""Running a command again is advised only where that may help."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from calig.advice import advice
from calig.engines.engine import WorkerLostError

LOG = Path("/tmp/calig-error.log")
GOES_ON = "the same command run again goes on from what is finished"


class OutOfMemoryError(RuntimeError):
    """As torch's."""


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ConnectionResetError("reset"), "this may pass: "),
        (TimeoutError("slow"), "this may pass: "),
        (OSError(errno.EIO, "Input/output error"), "this may pass: "),
        (WorkerLostError("worker 1 ended"), "this may pass: "),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: make room, then "),
        (OutOfMemoryError("CUDA out of memory"), "memory is short: "),
        (MemoryError(), "memory is short: "),
        (RuntimeError("IOError: [Errno 28] No space left on device"), "the disk is full: make room, then "),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "this may pass: "),
        (sqlite3.OperationalError("database is locked"), "this may pass: "),
    ],
)
def test_what_may_pass(error: Exception, says: str) -> None:
    told = advice(error, LOG, "audit")
    assert told.startswith(f"details in {LOG}; {says}")
    assert told.endswith(GOES_ON)
    assert "goes on" not in advice(error, LOG, "query")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("shapes differ"),
        KeyError("weight"),
        AssertionError(),
        FileNotFoundError(errno.ENOENT, "No such file"),
        OSError(errno.EROFS, "Read-only file system"),
    ],
)
def test_what_stays(error: Exception) -> None:
    told = advice(error, LOG, "audit")
    assert "run again" not in told
    assert "report it" in told


def test_the_cause_counts() -> None:
    error = RuntimeError("a task failed")
    error.__cause__ = ConnectionRefusedError("refused")
    assert "this may pass" in advice(error, LOG, "audit")
