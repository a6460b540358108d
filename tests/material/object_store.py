"""An S3 server for tests (moto's), which can be told to fail: errors, throttling and slow answers."""

from __future__ import annotations

import io
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., Any]


@dataclass(slots=True)
class Store:
    """The server's address, and what it does wrong.

    `faults` maps a status (500: internal error, 503: slow down, 0: no answer for `pause` seconds, then 500) to the
    share of requests that get it; `met` counts them. One that is not `conditional` ignores the conditions of writes.
    """

    url: str
    faults: dict[int, float] = field(default_factory=dict)
    pause: float = 2.0
    met: dict[int, int] = field(default_factory=dict)
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    conditional: bool = True
    log: list[tuple[float, str, str, bytes]] | None = None
    puts: threading.Lock = field(default_factory=threading.Lock)

    def wrapped(self, app: Callable[..., Any]) -> Callable[..., Any]:
        """The server's application, with the faults in front of it."""

        def call(environ: dict[str, Any], start_response: Start) -> Any:
            drawn = self.rng.random()
            for status, share in self.faults.items():
                drawn -= share
                if drawn < 0:
                    self.met[status] = self.met.get(status, 0) + 1
                    if status == 0:
                        time.sleep(self.pause)
                    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                    code = "SlowDown" if status == 503 else "InternalError"
                    start_response(f"{status or 500} {code}", [("Content-Type", "application/xml")])
                    return [f"<Error><Code>{code}</Code><Message>told to</Message></Error>".encode()]
            if environ["REQUEST_METHOD"] not in ("PUT", "POST", "DELETE"):
                return app(environ, start_response)
            if not self.conditional:
                environ.pop("HTTP_IF_MATCH", None)
                environ.pop("HTTP_IF_NONE_MATCH", None)
            if self.log is None and not {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"} & environ.keys():
                return app(environ, start_response)
            # moto looks at the condition and then writes: without the lock, another request may come in between
            with self.puts:
                return self._logged(app, environ, start_response)

        return call

    def _logged(self, app: Callable[..., Any], environ: dict[str, Any], start_response: Start) -> Any:
        """Answer a write, and take it down where there is a log."""
        if self.log is None:
            return app(environ, start_response)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        said: list[str] = []

        def start(status: str, *rest: Any) -> Any:
            said.append(status)
            return start_response(status, *rest)

        answer = list(app(environ, start))
        if said[0].startswith("2"):
            self.log.append((time.monotonic(), environ["REQUEST_METHOD"], environ["PATH_INFO"], body))
        return answer


@contextmanager
def serve() -> Iterator[Store]:
    """Run the server on a free port of this machine."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = Store("")
    app = store.wrapped(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def bucket(server: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A bucket on the server, whose address and credentials are in the environment; gone afterwards."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    found = boto3.resource("s3").Bucket(name)
    found.create()
    try:
        yield server
    finally:
        server.faults.clear()
        server.met.clear()
        server.conditional, server.log = True, None
        found.objects.delete()
        found.delete()


def elsewhere(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be on another machine from here on: what is opened now has its copies in `cache`."""
    import s3fs

    monkeypatch.setenv("CALIG_CACHE", str(cache))
    s3fs.S3FileSystem.clear_instance_cache()
