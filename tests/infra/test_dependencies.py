"""The lock has what pyproject.toml asks for, by hash; the audit of it fails on what is known to be vulnerable."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "infra" / "requirements.lock").read_text()
LOCKED = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", LOCK, re.MULTILINE))
SCRIPT = ROOT / "infra" / "audit_dependencies.py"


def test_the_lock_has_what_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        asked = Requirement(text)
        name = canonicalize_name(asked.name)
        if name != "torch":  # its CPU build is a wheel of its own on some machines
            assert name in LOCKED, f"{name}: run make lock"
            assert asked.specifier.contains(LOCKED[name]), f"{name}: run make lock"
    for line in (ROOT / "infra" / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        if version and name != "torch":
            assert LOCKED[canonicalize_name(name)] == version, f"{name}: run make lock"


def test_every_package_of_the_lock_has_a_hash_and_no_place() -> None:
    entries = [entry for entry in re.split(r"\n(?=[a-z0-9])", LOCK) if "==" in entry]
    assert len(entries) == len(LOCKED) > 100
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]
    assert "://" not in LOCK
    assert "index" not in re.sub(r"^\S+==", "", LOCK)


class _Advisories(BaseHTTPRequestHandler):
    """Speaks as api.osv.dev does, and knows of one vulnerability."""

    vulnerable = "none"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known: dict[str, Any] = {}
        if asked["package"]["name"] == self.vulnerable:
            affected = [{"package": asked["package"], "ranges": []}]
            known = {"vulns": [{"id": "OSV-1", "aliases": [], "summary": "leaks", "affected": affected}]}
        body = json.dumps(known).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def _advisories(vulnerable: str) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), type("_Told", (_Advisories,), {"vulnerable": vulnerable}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()


def _audit(folder: Path, url: str, python: str = sys.executable) -> tuple[int, list[str]]:
    (folder / "requirements.lock").write_text(
        "jinja2==3.1.6 \\\n    --hash=sha256:00\nurllib3==2.8.0 \\\n    --hash=sha256:00\n"
    )
    (folder / "constraints.txt").write_text("# tested with\ntorch==2.13.0\nprefect==3.8.8\n")
    command = [python, str(SCRIPT), "--osv-url", url, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize("vulnerable", ["urllib3", "torch"])
def test_a_known_vulnerability_fails(tmp_path: Path, vulnerable: str) -> None:
    with _advisories(vulnerable) as url:
        code, lines = _audit(tmp_path, url)
    assert code == 1
    assert re.fullmatch(rf"{vulnerable} \S+: OSV-1, mended in no version yet", lines[0])
    assert lines[1:] == [f"3 of 3 packages audited with {url}: 1 known vulnerabilities"]


def test_none_is_said(tmp_path: Path) -> None:
    with _advisories("another") as url:
        assert _audit(tmp_path, url) == (0, [f"3 of 3 packages audited with {url}: no known vulnerabilities"])


def test_a_service_out_of_reach_is_said_in_one_line(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/v1/query"
    assert _audit(tmp_path, url) == (0, [f"dependencies are not audited: {url} cannot be reached from here"])


def test_an_audit_that_cannot_be_made_at_all_fails(tmp_path: Path) -> None:
    with _advisories("another") as url:
        code, [line] = _audit(tmp_path, url, shutil.which("python3", path=sys.base_prefix + "/bin") or "")
    assert code == 1
    assert line.endswith("No module named pip_audit")
