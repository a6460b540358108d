"""Permission denied is never taken for absence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from calig.errors import InputError
from calig.listing import children, exists, files_below, is_file, is_folder, links_below, matching
from tests.material.permissions import held_to_permissions


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that may not be read."""
    folder = tmp_path / "open" / "closed"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("")
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


@pytest.mark.parametrize(
    "look",
    [
        children,
        lambda folder: matching(folder, "*.csv"),
        lambda folder: is_file(folder / "a.csv"),
        lambda folder: is_folder(folder / "a"),
        lambda folder: exists(folder / "none"),
        lambda folder: list(files_below(folder.parent)),
        lambda folder: list(links_below(folder.parent)),
    ],
)
def test_a_folder_that_may_not_be_read(closed: Path, look: Callable[[Path], Any]) -> None:
    with (
        held_to_permissions(),
        pytest.raises(InputError, match=rf"^{closed}\S* may not be read: permission denied"),
    ):
        look(closed)


def test_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none", tmp_path / "file" / "below", tmp_path / "a\0b", tmp_path / ("x" * 300)):
        assert not exists(path)
        assert not is_file(path)
        assert not is_folder(path)
    assert children(tmp_path / "none") == children(tmp_path / "file") == []


def test_files_below_links_or_not(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "store").mkdir()
    for name in ("a/b/1", "a/.2", "store/3"):
        (tmp_path / name).write_text("")
    (tmp_path / "a" / "round").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "more").symlink_to(tmp_path / "store")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "store" / "3")
    names = {str(path.relative_to(tmp_path / "a")) for path in files_below(tmp_path / "a")}
    assert names == {"b/1", ".2", "link"}
    names = {str(path.relative_to(tmp_path / "a")) for path in files_below(tmp_path / "a", links=True)}
    assert names == {"b/1", ".2", "link", "more/3"}
    assert {path.name for path in links_below(tmp_path / "a")} == {"round", "more", "link"}
