"""Prefect's temporary server: begun early, found by the client, and gone with the process that began it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

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


def test_the_client_takes_the_server_that_has_begun(tmp_path: Path) -> None:
    program = "begin(); reach(); assert server.running; assert server.server_process is first is not None"
    done = run(program, tmp_path)
    assert done.returncode == 0, done.stderr
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
