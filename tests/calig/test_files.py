"""The files of a folder: what is written goes where the folder is kept as well, and nowhere by chance."""

from __future__ import annotations

import ast
from pathlib import Path

from calig.files import Files

ROOT = Path(__file__).parents[2]
OUTSIDE = {"calig/cli.py", "calig/corpus/remote.py"}
"""What they write themselves is in no warehouse: a configuration, a picture, an index of copies."""


class Kept:
    """Notes what it is told, and what a file held at that time."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, bytes | None]] = []

    def publish(self, path: Path) -> None:
        self.told.append(("publish", path.name, path.read_bytes()))

    def delete(self, path: Path) -> None:
        assert not path.exists()
        self.told.append(("delete", path.name, None))

    def fetch(self, *prefixes: str) -> None:
        self.told.extend(("fetch", prefix, None) for prefix in prefixes)


def test_what_is_written_is_kept_as_well_and_what_is_deleted_is_not(tmp_path: Path) -> None:
    kept = Kept()
    files = Files(tmp_path, kept)
    files.write_json(tmp_path / "new" / "a.json", {"n": float("nan")})
    files.write_atomic(tmp_path / "b", b"b")
    with files.making(tmp_path / "c") as part:
        part.write_bytes(b"c")
    files.publish(tmp_path / "b", tmp_path / "c")
    files.discard(tmp_path / "new")
    files.discard(tmp_path / "missing")
    files.fetch(tmp_path / "attributions" / "k")
    a = b'{\n  "n": null\n}\n'
    assert kept.told == [
        *(("publish", name, content) for name, content in (("a.json", a), ("b", b"b"), ("c", b"c"))),
        *(("publish", name, name.encode()) for name in "bc"),
        *(("delete", name, None) for name in ("new", "missing")),
        ("fetch", "attributions/k", None),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]


def test_files_that_are_kept_here_alone_need_no_other_place(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.write_json(tmp_path / "a.json", [1])
    files.publish(tmp_path / "a.json")
    files.fetch(tmp_path)
    files.discard(tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_in_a_warehouse_goes_through_its_files() -> None:
    """The functions `write_atomic` and `write_json` alone would leave it out of a store, and nobody would be told."""
    sources = {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
        for package in ("calig", "flows", "tasks")
        for path in (ROOT / package).rglob("*.py")
    }
    direct = {
        name
        for name, source in sources.items()
        if "import files" in source or "from calig.files" in source
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module in ("calig.files", "calig")
        if {"write_atomic", "write_json", "files"} & {alias.name for alias in node.names}
    }
    assert direct == OUTSIDE
