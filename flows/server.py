"""Prefect's server for the time of a command."""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import prefect
from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_EPHEMERAL_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
)

from calig.environment import server_home
from calig.errors import ServerError

PORT_TAKEN = "address already in use"
PORTS = 5
"""How many ports are tried: another process may take one between its choice and the server's start."""
NEWER_DATABASE = "Can't locate revision identified by"
"""What the server says of a database that a newer Prefect has changed."""
_REASON = re.compile(r"^[\w.]*(Error|Exception|Exit|Interrupt|Warning)\b.*", re.MULTILINE)


def begin() -> None:
    """Start Prefect's own temporary server where no API is configured, and do not wait for it: `reach` does that.

    It starts in a process of its own while this one goes on. Called again, it does nothing. The server ends with this
    process, whatever ends it, also where `reach` is never called. Where it ends before that, this process is
    interrupted, as by Ctrl-C, and `death` says why.
    """
    if PREFECT_API_URL.value() or not PREFECT_SERVER_EPHEMERAL_ENABLED.value():
        return
    from prefect.server.api.server import SubprocessASGIServer

    server: Any = SubprocessASGIServer()  # the one that the client will take
    if server.server_process is not None:
        return
    global _served
    with _no_interrupts():
        _served = _Served(server)
    atexit.register(server.stop)


def reach() -> None:
    """Make sure that there is a Prefect API, waiting for Prefect's own temporary server where none is configured.

    A terminal sends Ctrl-C to that server too. It starts with the signal blocked, which it keeps, so that
    the flow it serves can still report its end; Prefect stops it when this process ends. A Ctrl-C meanwhile
    counts once the server is there.

    Raises
    ------
    ServerError
        The server ended, or did not answer in time.
    """
    with _no_interrupts():
        begin()
        if _served is not None:
            _served.wait()
        with get_client(sync_client=True):
            pass


def death() -> str | None:
    """Say why the server that this process started ended before it was to; None: it did not."""
    return None if _served is None else _served.death


class _Served:
    """The temporary server that this process started: its process, its log, and why it ended."""

    def __init__(self, server: Any) -> None:
        self.death: str | None = None
        self._server = server
        self._ending = self._waiting = False
        self._home = _home()
        number, name = tempfile.mkstemp(prefix="calig-server-", suffix=".log", dir=self._home)
        os.close(number)
        self._log = Path(name)
        self._stop = server.stop
        self._start()
        server.stop = self.stop
        server._run_uvicorn_command = self._given
        threading.Thread(target=self._watch, daemon=True).start()

    def wait(self) -> None:
        """Wait until the server answers.

        Raises
        ------
        ServerError
            It ended, or did not answer in time.
        """
        seconds = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
        deadline = time.monotonic() + seconds
        self._waiting = True
        past_proxies = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            if self.death is not None:
                raise ServerError(self.death)
            try:
                with past_proxies.open(f"{self._server.api_url}/health", timeout=5):
                    self._waiting = False
                    return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline:
                    self._ending = True  # nobody waits for it any more
                    raise ServerError(
                        f"the Prefect server of this command does not answer after {seconds} s (its log: {self._log}); "
                        "set PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS to wait longer"
                    ) from None
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server, which this process needs no more."""
        self._ending = True
        self._stop()
        if self.death is None:
            self._log.unlink(missing_ok=True)

    def _given(self) -> subprocess.Popen[Any]:
        """Give the client the server that has begun."""
        process: subprocess.Popen[Any] = self._server.server_process
        if process.poll() is not None:  # the client would ask again without end
            raise ServerError(
                self.death or f"the Prefect server of this command ended {_how(process.poll() or 0)}"
            )
        return process

    def _start(self) -> None:
        """Start the server on a port that was free a moment ago, as Prefect does, its output in the log."""
        self._server.port = self._server.find_available_port()
        command = ["uvicorn", "--app-dir", str(prefect.__module_path__.parent)]
        command += ["--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1"]
        command += ["--port", str(self._server.port), "--log-level", "error", "--lifespan", "on"]
        environment = {
            **os.environ,
            "PREFECT_UI_ENABLED": "0",
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
            **get_current_settings().to_environment_variables(exclude_unset=True),
            "PREFECT_HOME": str(self._home),
        }
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], env=environment, stdout=log, stderr=log
            )
        _end_with_us(process.pid, self._log)
        self._server.server_process = process

    def _watch(self) -> None:
        """Wait for the server's end; where it comes too early, keep its reason and interrupt the main thread."""
        for _ in range(PORTS):
            code = self._server.server_process.wait()
            said = self._log.read_text(errors="replace")
            if self._ending:
                return
            if PORT_TAKEN not in said:
                break
            self._log.write_text("")
            self._start()
        self.death = (
            f"the Prefect server of this command ended {_how(code)}{self._why(said)} (its log: {self._log})"
        )
        self._refuse_requests()
        if (
            not self._waiting
        ):  # as SIGTERM does where that is handled: Ctrl-C may be ignored, as in the background
            handled = callable(signal.getsignal(signal.SIGTERM))
            main = threading.main_thread().ident or 0
            signal.pthread_kill(main, signal.SIGTERM if handled else signal.SIGINT)

    def _refuse_requests(self) -> None:
        """Have Prefect's clients fail at once: they would wait for minutes for a server that comes back."""

        def refuse(*_: object, **__: object) -> Any:
            raise ServerError(self.death or "")

        for client in (PrefectHttpxSyncClient, PrefectHttpxAsyncClient):
            client.send = refuse  # type: ignore[method-assign]

    def _why(self, said: str) -> str:
        """Say why the server ended, from its log, after a colon; nothing where it does not say."""
        if NEWER_DATABASE in said:
            return (
                f": its database in {self._home} is of a newer Prefect than {prefect.__version__}; set PREFECT_HOME to "
                "another folder or, where nothing else needs it, unset it"
            )
        reasons = [found.group(0) for found in _REASON.finditer(said)]
        return f": {reasons[-1]}" if reasons else ""


_served: _Served | None = None


def _home() -> Path:
    """Return the folder of the server's database and log: calig's own, unless the user has named another."""
    settings = get_current_settings()
    database = settings.server.database
    named = {"connection_url", "driver", "host", "name"} & database.model_fields_set
    if named or "home" in settings.model_fields_set:
        return Path(PREFECT_HOME.value())
    return server_home()


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    return f"by {signal.Signals(-code).name}" + (
        " (memory may have run out)" if code == -signal.SIGKILL else ""
    )


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Put Ctrl-C off, also for the processes that are started meanwhile: they never hear of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_watches: list[subprocess.Popen[bytes]] = []


def _end_with_us(pid: int, log: Path) -> None:
    """Let a shell kill the process, and delete its log, when a pipe that we hold is closed, be it by the kernel."""
    command = ["/bin/sh", "-c", 'read -r _; kill "$0" && rm -f "$1"', str(pid), str(log)]
    _watches.append(
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    )
