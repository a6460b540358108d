"""What every store can do: a folder, and an S3 server."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from calig.errors import InputError
from calig.storage import store as stores
from calig.storage.store import check_conditional_writes, open_store
from tests.material.object_store import Store

URL = "s3://audits/nightly"


@pytest.fixture(params=["folder", "s3"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> stores.Store:
    """A store without objects."""
    if request.param == "folder":
        return open_store((tmp_path / "store").as_uri())
    request.getfixturevalue("store")
    return open_store(URL)


def test_an_object_is_written_read_listed_and_deleted(opened: stores.Store, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 2**16)  # two parts
    opened.put("a/b", b"1")
    opened.put("a/large", large)
    opened.put("c", b"")
    content, version = opened.read("a/b")
    assert content == b"1"
    assert version["e_tag"]
    opened.download("a/large", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == large.read_bytes()
    assert [(entry.name, entry.size) for entry in opened.list("a/")] == [("a/b", 1), ("a/large", 2**24)]
    assert [entry.name for entry in opened.list("")] == ["a/b", "a/large", "c"]
    assert 0 <= opened.age("c") < 60
    opened.delete(["a/b", "a/large", "missing"])
    assert [entry.name for entry in opened.list("")] == ["c"]
    for missing in (
        lambda: opened.read("a/b"),
        lambda: opened.download("a/b", large),
        lambda: opened.age("a/b"),
    ):
        with pytest.raises(FileNotFoundError):
            missing()


def test_a_conditional_write_is_carried_out_if_its_condition_holds(opened: stores.Store) -> None:
    first = opened.put_if_absent("x", b"1")
    assert first is not None
    assert opened.put_if_absent("x", b"2") is None
    second = opened.compare_and_set("x", b"3", first)
    assert second is not None
    assert opened.compare_and_set("x", b"4", first) is None
    assert opened.read("x") == (b"3", second)
    assert opened.compare_and_set("missing", b"5", first) is None
    check_conditional_writes(opened, "here")
    assert [entry.name for entry in opened.list("")] == ["x"]


def test_of_several_who_compare_and_set_at_once_one_does(opened: stores.Store) -> None:
    version = opened.put_if_absent("x", b"0")
    assert version is not None
    done: list[int] = []

    def change(number: int) -> None:
        if opened.compare_and_set("x", str(number).encode(), version):
            done.append(number)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [opened.read("x")[0]] == [str(number).encode() for number in done]


def test_a_store_that_ignores_conditions_is_found_out(store: Store) -> None:
    store.conditional = False
    opened = open_store(URL)
    with pytest.raises(
        InputError, match=r"warehouse s3://audits/nightly: this store has no conditional writes"
    ):
        check_conditional_writes(opened, URL)
    assert not opened.list("")


def test_a_store_of_another_kind_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"warehouse s4://x: no such store .*use a folder, s3://, gs:// or az://"
    ):
        open_store("s4://x")
