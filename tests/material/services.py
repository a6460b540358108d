"""Prefect servers, on SQLite and on PostgreSQL, which end with the session; and receivers of notifications."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.material import session

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


def postgres_programs() -> Path | None:
    """The folder of initdb and postgres: Debian does not put them on the PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    return max(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None
    )


PROGRAMS = postgres_programs()
NEEDS_POSTGRES = [
    pytest.mark.postgres,
    pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL is not installed: apt install postgresql"),
]
"""Marks of tests that start it."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], T | None], seconds: float, name: str, every: float = 0.5) -> T:
    """What `what` returns, once it returns something."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {name}"
        time.sleep(every)
    return found


@contextmanager
def ended(arguments: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed, with its group, at the end of the block."""
    with log.open("ab") as stream:
        process = subprocess.Popen(
            arguments, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True, **options
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def start_postgres(programs: Path) -> int:
    """Start the session's PostgreSQL on a free port of loopback, with a database `prefect`; return the port."""
    user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
    options: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
    folder = Path(tempfile.mkdtemp(prefix="calig-postgres-"))
    session.delete_at_end(folder)
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    port = free_port()
    initdb = [programs / "initdb", "-D", folder / "data", "-U", "prefect", "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **options)
    settings = ("listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off")
    server = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port)]
    server += [part for setting in settings for part in ("-c", setting)]
    session.serve("postgres", server, session.folder() / "postgres.log", os.environ, cwd=folder, **options)
    made = [programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect"]
    wait_for(lambda: subprocess.run(made, capture_output=True).returncode == 0, 60, "PostgreSQL")
    return port


def start_prefect(folder: Path, database: str | None = None) -> str:
    """Start a Prefect server whose home is `folder`, on a database or an SQLite file; return its API's address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = without_prefect() | {
        "PREFECT_HOME": str(folder),
        "PREFECT_UI_URL": f"http://127.0.0.1:{port}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        "DO_NOT_TRACK": "1",
    }
    if database:
        environment["PREFECT_API_DATABASE_CONNECTION_URL"] = database
    log = folder / "server.log"
    process = session.serve(folder.name, command, log, environment)

    def answers() -> bool:
        assert Path(f"/proc/{process}").exists() or not Path("/proc").exists(), "the server has ended"
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return True
        except OSError:
            return False

    try:
        wait_for(answers, 180, "the Prefect server", every=0.2)
    except AssertionError as error:
        raise AssertionError(f"{error}:\n{log.read_text()[-3000:]}") from None
    return url


def without_prefect() -> dict[str, str]:
    """This process's environment without Prefect's variables."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}


@dataclass(frozen=True)
class Server:
    """A Prefect server, and how commands reach it; on PostgreSQL also where that is."""

    url: str
    environment: dict[str, str]
    folder: Path
    programs: Path | None
    port: int | None

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ask its API, past Prefect's client."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def runs(self, deployment: str, **filters: Any) -> list[dict[str, Any]]:
        """Runs of a deployment that are not waiting for their time, oldest first."""
        body = {
            "deployments": {"name": {"any_": [deployment]}},
            "flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}, **filters},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        found: list[dict[str, Any]] = self.api("POST", "/flow_runs/filter", body)
        return found

    def command(self, *arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a module of ours or Prefect's as a command."""
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            env=self.environment | variables,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def sql(self, statement: str) -> str:
        """Ask its database."""
        assert self.programs is not None
        psql = [self.programs / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "prefect", "-At", "-c"]
        return subprocess.run([*psql, statement], check=True, capture_output=True, text=True).stdout.strip()

    def dump(self) -> str:
        """All of its database."""
        assert self.programs is not None
        pg_dump = [self.programs / "pg_dump", "-h", "127.0.0.1", "-p", str(self.port), "-U", "prefect"]
        return subprocess.run(pg_dump, check=True, capture_output=True, text=True).stdout


def server_at(url: str, folder: Path, programs: Path | None = None, port: int | None = None) -> Server:
    """A running server, with the environment of commands that use it."""
    environment = without_prefect() | {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": url,
        "PREFECT_UI_URL": url.removesuffix("/api"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    return Server(url, environment, folder, programs, port)


def prefect_on_postgres() -> Server:
    """The session's Prefect server on the session's PostgreSQL."""
    assert PROGRAMS is not None
    programs = PROGRAMS

    def start(folder: Path) -> tuple[str, int]:
        port = start_postgres(programs)
        url = start_prefect(folder, f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect")
        return url, port

    name = "prefect-on-postgres"
    url, port = session.once(name, start)
    return server_at(url, session.folder() / name, programs, port)


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A receiver of webhooks on loopback: its address, and the bodies that came."""
    received: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server, _serving(server):
        yield f"http://127.0.0.1:{server.server_port}", received


@contextmanager
def mailbox() -> Iterator[tuple[int, list[str]]]:
    """A mail server on loopback: its port, and the mails that came."""
    received: list[str] = []

    class Receiver(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            for line in self.rfile:
                if line.upper().startswith(b"DATA"):
                    self.wfile.write(b"354 go on\r\n")
                    received.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                self.wfile.write(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 fine\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Receiver) as server, _serving(server):
        yield int(server.server_address[1]), received


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
