"""Prefect's temporary server: begun early, found by the client, and gone with the process that began it."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.material.services import wait_for, without_prefect
from tests.material.tiers import extended

ROOT = Path(__file__).parents[2]
BEGIN = """
from flows.server import begin, reach
begin()
from prefect.server.api.server import SubprocessASGIServer
server = SubprocessASGIServer()
first = server.server_process
print(first and first.pid, flush=True)
"""


def run(program: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it in a process that has a Prefect of its own."""
    inherited = without_prefect()
    return subprocess.run(
        [sys.executable, "-c", BEGIN + program],
        cwd=ROOT,
        env={**inherited, "PREFECT_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


DIES = """
import os, signal, sys, time
from flows.server import death
signal.signal(signal.SIGTERM, lambda *_: sys.exit(f"after {time.monotonic() - killed:.0f} s: {death()}"))
os.kill(first.pid, signal.SIGKILL)
killed = time.monotonic()
time.sleep(60)
"""


def test_the_client_takes_the_server_that_has_begun_and_hears_of_its_death(tmp_path: Path) -> None:
    program = "begin(); reach(); assert server.running; assert server.server_process is first is not None"
    done = run(program + DIES, tmp_path)
    [said] = done.stderr.splitlines()
    assert re.match(
        r"after \d+ s: the Prefect server of this command ended by SIGKILL \(memory may have run out\) \(its log: ",
        said,
    ), said
    assert not alive(int(done.stdout))


@extended("a server of its own")
def test_a_server_that_nobody_waited_for_ends_when_its_process_fails(tmp_path: Path) -> None:
    done = run("raise RuntimeError('training failed')", tmp_path)
    assert "training failed" in done.stderr
    assert not alive(int(done.stdout))


def test_a_server_ends_when_its_process_is_killed(tmp_path: Path) -> None:
    done = run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    wait_for(lambda: not alive(pid), 30, "the server to end")


@extended("a process that imports Prefect, twice")
def test_nothing_is_begun_where_an_api_is_configured_or_none_is_wanted(tmp_path: Path) -> None:
    configured = run("", tmp_path, PREFECT_API_URL="http://127.0.0.1:1/api")
    unwanted = run("", tmp_path, PREFECT_SERVER_EPHEMERAL_ENABLED="false")
    assert [done.stdout.strip() for done in (configured, unwanted)] == ["None", "None"], configured.stderr


@extended("a server of its own")
def test_a_database_of_a_newer_prefect_is_named(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('27d8f4e1a6c9')")
    done = run("reach()", tmp_path)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "calig.errors.ServerError: the Prefect server of this command ended with exit code 3: "
    )
    assert (
        f"its database in {tmp_path} is of a newer Prefect than {version('prefect')}; set PREFECT_HOME"
        in last
    )
    log = Path(last.rpartition("(its log: ")[2].removesuffix(")"))
    assert "Can't locate revision identified by '27d8f4e1a6c9'" in log.read_text()


@pytest.mark.parametrize(
    ("settings", "own"),
    [
        ({}, True),
        ({"PREFECT_PROFILE": "ephemeral"}, True),
        ({"PREFECT_HOME": "elsewhere"}, False),
        ({"PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///elsewhere.db"}, False),
        ({"PREFECT_API_DATABASE_NAME": "elsewhere.db"}, False),
    ],
)
def test_a_server_has_a_home_of_caligs_unless_the_user_says_otherwise(
    settings: dict[str, str], own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_HOME, Settings

    from flows import server

    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CALIG_CACHE", str(tmp_path))
    monkeypatch.setattr(server, "get_current_settings", Settings)
    ours = tmp_path / f"prefect-{version('prefect')}"
    assert server._home() == (ours if own else Path(PREFECT_HOME.value()))
