"""Hashes are remembered by what the system changes with a file, and by nothing that can be set."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from calig import hashes
from calig.hashes import content_hash, content_hashes


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, in which files count as quiet at once, unless the test says otherwise."""
    monkeypatch.setenv("CALIG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "QUIET_SECONDS", 0.0)
    return tmp_path / "cache" / "hashes.sqlite"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read."""
    found: list[Path] = []
    real = hashes._read

    def watch(path: Path) -> tuple[str, hashes.Stamp | None]:
        found.append(path)
        return real(path)

    monkeypatch.setattr(hashes, "_read", watch)
    return found


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make(path: Path, text: str) -> Path:
    path.write_text(text)
    os.utime(path, (0, 0))
    return path


def rewrite(path: Path) -> None:
    with path.open("r+") as stream:
        stream.write("two")


def rename_over(path: Path) -> None:
    make(path.with_name("new"), "two").rename(path)


def copy_over(path: Path) -> None:
    """As `cp -p` and `rsync` do."""
    shutil.copy2(make(path.with_name("new"), "two"), path)


def replace(path: Path) -> None:
    path.unlink()
    make(path, "two")


def link_elsewhere(path: Path) -> None:
    path.unlink()
    path.symlink_to(make(path.with_name("new"), "two"))


def test_what_did_not_change_is_not_read_again(tmp_path: Path, read: list[Path]) -> None:
    files = [make(tmp_path / name, name) for name in ("a", "b")]
    for _ in range(3):
        assert list(content_hashes(files)) == [sha("a"), sha("b")]
    assert read == files


@pytest.mark.parametrize("change", [rewrite, rename_over, copy_over, replace, link_elsewhere])
def test_another_content_of_the_same_name_size_and_time(
    tmp_path: Path, read: list[Path], change: Callable[[Path], None]
) -> None:
    path = make(tmp_path / "model", "one")
    assert content_hash(path) == sha("one")
    change(path)
    os.utime(path, (0, 0))
    assert (path.stat().st_size, path.stat().st_mtime) == (3, 0.0)
    assert content_hash(path) == sha("two")
    assert len(read) == 2


def test_a_file_that_changed_lately_is_not_remembered(
    tmp_path: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coarse clock would give both contents one ctime, which is what the patched stamp stands for."""
    monkeypatch.setattr(hashes, "QUIET_SECONDS", 2.0)
    real, path = hashes._stamp, make(tmp_path / "a", "one")
    monkeypatch.setattr(hashes, "_stamp", lambda status: (*real(status)[:3], 7, 0))
    assert content_hash(path) == sha("one")
    rewrite(path)
    assert content_hash(path) == sha("two")
    later = time.time_ns() + 3 * 10**9
    monkeypatch.setattr(hashes.time, "time_ns", lambda: later)
    assert [content_hash(path), content_hash(path)] == [sha("two")] * 2
    assert len(read) == 3, "once more, then remembered"


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = make(tmp_path / "a", "one"), hashlib.file_digest

    def slow(*given: object) -> object:
        found = real(*given)  # type: ignore[arg-type]
        rewrite(path)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(hashes.hashlib, "file_digest", slow)
        content_hash(path)
    assert content_hash(path) == sha("two")


def test_what_is_no_file_has_no_hash(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    names = ["none", "pipe", "self", ".", "x" * 300, "a\0b"]
    assert list(content_hashes(tmp_path / name for name in names)) == [None] * len(names)


@pytest.mark.parametrize("trouble", ["damaged", "a folder", "no home"])
def test_without_memory_files_are_read_each_time(
    tmp_path: Path, memory: Path, read: list[Path], trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    if trouble == "no home":
        memory.parent.write_text("")
    else:
        memory.parent.mkdir()
        memory.mkdir() if trouble == "a folder" else memory.write_bytes(b"no database" * 1000)
    path = make(tmp_path / "a", "one")
    with caplog.at_level(logging.WARNING):
        assert [content_hash(path), content_hash(path)] == [sha("one")] * 2
    assert len(read) == 2
    assert f"{memory} cannot be used" in caplog.text
