"""Which files a folder or a glob means: one rule for both, and for stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from calig.corpus.left_out import LeftOut, in_words, total
from calig.corpus.search import first_hidden, search
from calig.errors import InputError
from tests.material.permissions import held_to_permissions


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


def found(folder: Path, pattern: str) -> tuple[list[str], dict[str, dict[str, Any]]]:
    left_out = LeftOut()
    paths = search(folder, pattern.split("/"), folder.resolve(), left_out)
    return [path.relative_to(folder).as_posix() for path in paths], left_out.to_json()


TREE = (
    *("a.csv", "d/b.csv", "d/e/c.csv", "_SUCCESS", "._a.csv", ".hidden/x.csv", "_temporary/0/y.csv"),
    *("d/.ipynb_checkpoints/b.csv", "_mine/m.csv", "_mine/_n.csv"),
)


@pytest.mark.parametrize(
    ("pattern", "files", "hidden"),
    [
        (
            "**/*",
            ["a.csv", "d/b.csv", "d/e/c.csv"],
            ["._a.csv", ".hidden/", "_SUCCESS", "_mine/", "_temporary/", "d/.ipynb_checkpoints/"],
        ),
        ("**", ["a.csv", "d/b.csv", "d/e/c.csv"], [*"123456"]),
        ("*", ["a.csv"], ["._a.csv", "_SUCCESS"]),
        ("*.csv", ["a.csv"], ["._a.csv"]),
        ("**/*.csv", ["a.csv", "d/b.csv", "d/e/c.csv"], [*"12345"]),
        ("*/*.csv", ["d/b.csv"], [".hidden/", "_mine/", "_temporary/"]),
        ("d/**/c.csv", ["d/e/c.csv"], ["d/.ipynb_checkpoints/"]),
        ("?/[a-c].csv", ["d/b.csv"], []),
        ("_mine/*.csv", ["_mine/m.csv"], ["_mine/_n.csv"]),
        ("_mine/_*.csv", ["_mine/_n.csv"], []),
        ("_*/*/*.csv", ["_temporary/0/y.csv"], []),
        (".hidden/x.csv", [".hidden/x.csv"], []),
        ("._*", ["._a.csv"], []),
        ("*.none", [], []),
        ("none/*.csv", [], []),
    ],
)
def test_hidden_names_are_left_out_where_a_wildcard_meets_them(
    tmp_path: Path, pattern: str, files: list[str], hidden: Sequence[str]
) -> None:
    names, left_out = found(made(tmp_path, *TREE), pattern)
    assert names == files
    assert total(left_out) == len(hidden)
    if hidden:
        assert list(left_out) == ["hidden"]
        assert len(hidden) > 3 or left_out["hidden"]["first"] == sorted(hidden)


@pytest.mark.parametrize(
    ("pattern", "name", "place"),
    [
        ("**/*", "a.csv", None),
        ("**/*", "_SUCCESS", 0),
        ("**/*", "d/_temporary/0/y.csv", 1),
        ("*.csv", "._a.csv", 0),
        ("*/_mine/*.csv", "d/_mine/m.csv", None),
        ("*/_mine/*.csv", "_d/_mine/m.csv", 0),
        ("_*/*.csv", "_mine/m.csv", None),
        ("x**.csv", "d/_b/x.csv", 1),
        ("x**.csv", "d/x.csv", None),
    ],
)
def test_stores_go_by_the_same_rule(pattern: str, name: str, place: int | None) -> None:
    assert first_hidden(pattern.split("/"), name.split("/")) == place


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    made(tmp_path, "a/1.csv", ".v2/2.csv", "d/3.csv")
    (tmp_path / "current").symlink_to(".v2")  # as Kubernetes and deployments do
    (tmp_path / "aa").symlink_to("a")
    (tmp_path / "d" / "up").symlink_to("..")
    files = ["a/1.csv", "current/2.csv", "d/3.csv"]
    for pattern in ("**/*", "**/*.csv"):
        names, left_out = found(tmp_path, pattern)
        assert names == files
        assert left_out["link to what is read already"] == {"files": 2, "first": ["aa/", "d/up/"]}
    names, left_out = found(tmp_path, "*/*.csv")
    assert (names, left_out["link to what is read already"]["first"]) == (files, ["aa/"])
    assert found(tmp_path, "aa/*.csv")[0] == ["aa/1.csv"], "asked for by name"


@pytest.mark.parametrize("pattern", ["**/*", "**/*.csv", "*/*.csv"])
def test_a_link_to_a_folder_elsewhere_is_refused(tmp_path: Path, pattern: str) -> None:
    made(tmp_path, "store/b.csv", "data/a.csv")
    (tmp_path / "data" / "more").symlink_to("../store")
    with pytest.raises(InputError, match=r"data/more is a link to a folder that leads out of "):
        found(tmp_path / "data", pattern)


@pytest.mark.parametrize("pattern", ["**/*", "**/*.csv", "*/*.csv", "dt=2/*.csv", "dt=2/a.csv"])
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path, pattern: str) -> None:
    made(tmp_path, "dt=1/a.csv", "dt=2/a.csv")
    (tmp_path / "dt=2").chmod(0)
    try:
        with (
            held_to_permissions(),
            pytest.raises(InputError, match=r"/dt=2\S* may not be read: permission denied"),
        ):
            found(tmp_path, pattern)
    finally:
        (tmp_path / "dt=2").chmod(0o700)


def test_what_is_left_out_in_words() -> None:
    left_out = LeftOut()
    for name in ("d", "c", "b", "a"):
        left_out.add(".heic", f"{name}.heic")
    left_out.add("hidden", ".DS_Store")
    assert in_words(left_out.to_json()) == "4 .heic (a.heic, b.heic, c.heic, …), 1 hidden (.DS_Store)"
    assert total(left_out.to_json()) == 5
    assert in_words({}) == ""
