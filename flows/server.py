"""Prefect's server for the time of a command."""

from __future__ import annotations

import atexit
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_ENABLED

_watches: list[subprocess.Popen[bytes]] = []


def begin() -> None:
    """Start Prefect's own temporary server where no API is configured, and do not wait for it: `reach` does that.

    It starts in a process of its own while this one goes on. Called again, it does nothing. The server ends with this
    process, whatever ends it, also where `reach` is never called.
    """
    if PREFECT_API_URL.value() or not PREFECT_SERVER_EPHEMERAL_ENABLED.value():
        return
    from prefect.server.api.server import SubprocessASGIServer

    server: Any = SubprocessASGIServer()  # the one that the client will take
    if server.server_process is not None:
        return
    start = server._run_uvicorn_command

    def watched() -> subprocess.Popen[Any]:
        process: subprocess.Popen[Any] = start()
        _end_with_us(process.pid)
        return process

    begun: list[subprocess.Popen[Any]] = []

    def given() -> subprocess.Popen[Any]:
        """Give the server that has begun, and a new one to a client whose first found its port taken."""
        return begun.pop() if begun else watched()

    server.port = server.port or server.find_available_port()
    with _no_interrupts():
        server.server_process = watched()
    begun.append(server.server_process)
    server._run_uvicorn_command = given
    atexit.register(server.stop)


def reach() -> None:
    """Make sure that there is a Prefect API, waiting for Prefect's own temporary server where none is configured.

    A terminal sends Ctrl-C to that server too. It starts with the signal blocked, which it keeps, so that
    the flow it serves can still report its end; Prefect stops it when this process ends. A Ctrl-C meanwhile
    counts once the server is there.
    """
    with _no_interrupts():
        begin()
        with get_client(sync_client=True):
            pass


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Put Ctrl-C off, also for the processes that are started meanwhile: they never hear of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_us(pid: int) -> None:
    """Let a shell kill the process when a pipe that we hold is closed, be it by the kernel."""
    command = ["/bin/sh", "-c", 'read -r _; kill "$0"', str(pid)]
    _watches.append(
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    )
