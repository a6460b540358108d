from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from calig.errors import InputError
from calig.files import sha256_file, write_atomic, write_json
from calig.warehouse.layout import Warehouse

ROOT = Path(__file__).parents[3]
EDGES = {
    *("calig/cli.py", "calig/doctor.py", "calig/engines/work.py", "calig/planning/rehearsal.py"),
    *("flows/audit.py", "flows/evaluate.py", "flows/ranges.py"),
}
"""Commands, flows and workers, and the rehearsal of a plan, whose warehouse is its own."""


def test_open_makes_the_folder_and_paths_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    warehouse = Warehouse.open("a/b")
    assert warehouse.root == tmp_path / "a" / "b"
    assert warehouse.root.is_dir()
    assert warehouse.run("r").relative_to(warehouse.root) == Path("runs/r")


@pytest.mark.parametrize(
    ("make", "path", "create", "says"),
    [
        (lambda p: p.write_text("x"), "w", True, "a file, not a folder"),
        (lambda p: None, "w", False, "no warehouse at"),
        (lambda p: None, "s4://bucket/w", True, "no such store"),
        (lambda p: p.write_text("x"), "w/inside", True, "cannot create"),
    ],
)
def test_open_says_what_is_wrong(tmp_path: Path, make: object, path: str, create: bool, says: str) -> None:
    make(tmp_path / "w")  # type: ignore[operator]
    target = path if "://" in path else tmp_path / path
    with pytest.raises(InputError, match=says):
        Warehouse.open(target, create=create)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_open_refuses_a_folder_it_cannot_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission"):
        Warehouse.open(tmp_path)


def test_write_atomic_keeps_the_old_content_when_the_write_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": "é"})
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    assert json.loads(path.read_text("utf-8")) == {"a": "é"}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_sha256_of_a_known_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path)
    with warehouse.writer_lock():
        with pytest.raises(InputError, match=rf"another writer .*pid {os.getpid()} on .* since 20"):
            warehouse.writer_lock().__enter__()
        held = "from calig.warehouse.layout import Warehouse as W; W.open(__import__('sys').argv[1])"
        other = subprocess.run(
            [sys.executable, "-c", f"{held}.writer_lock().__enter__()", tmp_path],
            capture_output=True,
            text=True,
        )
        assert "BusyError" in other.stderr
    with warehouse.writer_lock():
        pass


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, os; from calig.warehouse.layout import Warehouse\n"
        "with Warehouse.open(sys.argv[1]).writer_lock(): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == 9
    with Warehouse.open(tmp_path).writer_lock():
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_a_warehouse_is_opened_at_the_edge_and_passed_on() -> None:
    sources = {path for package in ("calig", "flows", "tasks") for path in (ROOT / package).rglob("*.py")}
    opening = {path for path in sources if "Warehouse.open(" in path.read_text("utf-8")}
    assert {path.relative_to(ROOT).as_posix() for path in opening} == EDGES
