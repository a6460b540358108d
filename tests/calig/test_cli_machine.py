"""The command line on machines that refuse something: read-only warehouses, full disks, signals, other systems."""

from __future__ import annotations

import errno
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from calig import cli
from tests.material.tiny import Audited

Answer = tuple[int, str, str]
Calig = Callable[..., Answer]


@pytest.fixture
def calig(capsys: pytest.CaptureFixture[str]) -> Calig:
    """Run the command line in this process: its exit code, and what it printed and complained."""

    def run(*arguments: str | Path) -> Answer:
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(argument) for argument in arguments])
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def read_only(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A warehouse on a stand-in for a read-only mount, which only root could make."""
    monkeypatch.setattr("calig.warehouse.layout.unwritable", lambda _: "Read-only file system")
    return audited.warehouse


@pytest.mark.parametrize(
    "command",
    [("tag", "latest", "x"), ("prune", "--keep", "1"), ("rebuild",), ("report",)],
    ids=lambda c: c[0],
)
def test_what_writes_is_refused_in_a_read_only_warehouse(
    command: tuple[str, ...], read_only: Path, calig: Calig
) -> None:
    before = sorted(read_only.rglob("*"))
    code, printed, complaint = calig(*command, "--warehouse", read_only)
    assert code == 2
    assert printed == ""
    [line] = complaint.splitlines()
    assert line.startswith(f"calig: warehouse {read_only}: it cannot be written (Read-only file system); ")
    assert sorted(read_only.rglob("*")) == before


def test_what_reads_works_in_a_read_only_warehouse(read_only: Path, audited: Audited, calig: Calig) -> None:
    before = sorted(read_only.rglob("*"))
    code, printed, _ = calig("query", "SELECT run_id FROM runs", "--format", "csv", "--warehouse", read_only)
    assert (code, printed) == (0, f"run_id\n{audited.run_id}\n")
    code, printed, complaint = calig("history", "--warehouse", read_only)
    assert code == 0
    assert "accuracy" in printed
    assert complaint == f"no trend page: {read_only} cannot be written (Read-only file system)\n"
    assert calig("runs", "--warehouse", read_only)[0] == 0
    assert sorted(read_only.rglob("*")) == before


def _raising(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/w/a"),
            3,
            "OSError: [Errno 28] No space left on device: '/w/a' ",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 3, "OSError: [Errno 122] Disk quota exceeded "),
        (
            duckdb.IOException('Could not write file "/w/b": No space left on device'),
            3,
            "IOException: Could not write file ",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/w/page.html"),
            2,
            "/w/page.html cannot be written: its file system is read-only; name another place",
        ),
        (OSError(errno.EIO, "Input/output error"), 3, "OSError: [Errno 5] Input/output error (details in "),
    ],
)
def test_a_disk_that_refuses_is_one_line(
    error: Exception, code: int, says: str, calig: Calig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("calig.warehouse.overview.overview", _raising(error))
    found, printed, complaint = calig("runs", "--warehouse", tmp_path)
    assert (found, printed) == (code, "")
    [line] = complaint.splitlines()
    assert line.startswith(f"calig: {says}")
    full = "No space" in str(error) or "quota" in str(error)
    assert ("the disk is full: make room, then the same command run again" in line) == full


def test_a_log_on_a_full_disk_says_nothing_on_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root, internal = logging.getLogger(), logging.getLogger("prefect._internal")
    for logger in (root, internal):
        monkeypatch.setattr(logger, "handlers", [*logger.handlers])
    monkeypatch.setattr(internal, "propagate", internal.propagate)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    cli._log_to(tmp_path / "calig.log")
    [handler] = root.handlers
    assert isinstance(handler, logging.FileHandler)
    monkeypatch.setattr(handler, "flush", _raising(OSError(errno.ENOSPC, "No space left on device")))
    root.error("what nobody can write down")
    assert capfd.readouterr() == ("", "")
    monkeypatch.undo()
    handler.close()


def test_sigterm_ends_a_command_with_one_line(
    calig: Calig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("calig.warehouse.overview.overview", work)
    code, _, complaint = calig("runs", "--warehouse", tmp_path)
    assert code == 143
    assert complaint == "calig: stopped by SIGTERM\n", "nothing goes on of a command that only reads"
    assert signal.getsignal(signal.SIGTERM) == before


def test_another_system_is_refused_by_the_first_command(
    calig: Calig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_SYSTEM", "nt")
    code, printed, complaint = calig("--help")
    assert (code, printed) == (2, "")
    [line] = complaint.splitlines()
    assert line.startswith("calig: this system is not supported: calig runs on Linux, and ")
