"""Prefect's server for the time of a command."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

_watches: list[subprocess.Popen[bytes]] = []


def reach() -> None:
    """Make sure that there is a Prefect API, starting Prefect's own temporary server where none is configured.

    A terminal sends Ctrl-C to that server too. It starts with the signal blocked, which it keeps, so that
    the flow it serves can still report its end; Prefect stops it when this process ends. A Ctrl-C meanwhile
    counts once the server is there.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        if not PREFECT_API_URL.value():
            _leave_no_orphan()
        with get_client(sync_client=True):
            pass
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_no_orphan() -> None:
    """Have Prefect's temporary server end with this process even where that is killed, and cannot stop it."""
    from prefect.server.api.server import SubprocessASGIServer

    server: Any = SubprocessASGIServer()  # the one that the client will start
    start = server._run_uvicorn_command

    def watched() -> subprocess.Popen[Any]:
        process: subprocess.Popen[Any] = start()
        _end_with_us(process.pid)
        return process

    server._run_uvicorn_command = watched


def _end_with_us(pid: int) -> None:
    """Let a shell kill the process when a pipe that we hold is closed, be it by the kernel."""
    command = ["/bin/sh", "-c", 'read -r _; kill "$0"', str(pid)]
    _watches.append(
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    )
