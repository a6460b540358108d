"""Corpora on an S3 server."""

from __future__ import annotations

import os
from pathlib import Path

import boto3
import pytest

from calig.config import CorpusConfig
from calig.corpus import fingerprint, ingest
from calig.corpus.left_out import LeftOut, total
from calig.corpus.remote import local_copies
from calig.errors import InputError
from calig.files import Files
from tests.material.object_store import Store, elsewhere
from tests.material.parts import source_rows
from tests.material.tiny import make_rows, write_parquet


@pytest.fixture(autouse=True)
def here(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(tmp_path / "cache", monkeypatch)


def _put(name: str, seed: int, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "made.parquet", make_rows(10, seed))
    boto3.client("s3").upload_file(str(path), "audits", name)


def _texts(url: str, root: Path) -> list[str]:
    manifest = ingest(CorpusConfig(path=url, text="text", id="id"), ("a", "b"), Files(root))
    assert manifest.source == url
    texts: list[str] = source_rows(manifest, root)["text"].to_pylist()
    return texts


def test_an_object_a_prefix_and_a_glob(tmp_path: Path, store: Store) -> None:
    for night in (1, 2, 3):
        _put(f"in/dt=2026-11-0{night}/a.parquet", night, tmp_path)
    texts = {night: [row["text"] for row in make_rows(10, night)] for night in (1, 2, 3)}
    store.faults = {500: 0.1, 503: 0.1}
    root = tmp_path / "w"
    assert _texts("s3://audits/in/dt=2026-11-02/a.parquet", root) == texts[2]
    assert _texts("s3://audits/in/dt=2026-11-0[13]/*.parquet", root) == texts[1] + texts[3]
    assert _texts("s3://audits/in", root) == texts[1] + texts[2] + texts[3]
    assert _texts("s3://audits/in/dt=2026-11-03/", root) == texts[3]


def test_what_changed_or_went_is_noticed(tmp_path: Path) -> None:
    _put("in/a.parquet", 1, tmp_path)
    _put("in/b.parquet", 2, tmp_path)
    corpus = CorpusConfig(path="s3://audits/in/*.parquet", text="text", id="id")
    before = fingerprint(corpus)
    assert fingerprint(corpus) == before, "nothing is copied again"
    _put("in/b.parquet", 3, tmp_path)
    assert fingerprint(corpus) != before
    assert _texts("s3://audits/in/*.parquet", tmp_path / "w")[10:] == [
        row["text"] for row in make_rows(10, 3)
    ]
    boto3.client("s3").delete_object(Bucket="audits", Key="in/a.parquet")
    assert len(_texts("s3://audits/in/*.parquet", tmp_path / "w")) == 10


def test_a_copy_that_was_damaged_is_fetched_again(tmp_path: Path) -> None:
    _put("in/a.parquet", 1, tmp_path)
    [copy] = local_copies("s3://audits/in/a.parquet").files
    content, times = copy.read_bytes(), copy.stat()
    copy.write_bytes(bytes(len(content)))
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert local_copies("s3://audits/in/a.parquet").files == [copy]
    assert copy.read_bytes() == content


def test_what_a_store_knows_by_size_and_time_alone_is_fetched_each_time(tmp_path: Path) -> None:
    """Such as a file system behind a URL."""
    path = tmp_path / "store" / "a.csv"
    path.parent.mkdir()
    for text in ("text\none\n", "text\ntwo\n"):
        path.write_text(text)
        os.utime(path, (0, 0))
        [copy] = local_copies(f"file://{path}").files
        assert copy.read_text() == text


@pytest.mark.parametrize(
    ("given", "names", "hidden"),
    [
        ("in", ["a.csv", "d/b.csv"], ["._a.csv", "_temporary/", "d/_SUCCESS"]),
        ("in/*.csv", ["a.csv"], ["._a.csv"]),
        ("in/**/*.csv", ["a.csv", "d/b.csv"], ["._a.csv", "_temporary/"]),
        ("in/_temporary/*/*.csv", ["0/c.csv"], []),
    ],
)
def test_names_that_are_no_data_are_left_out(
    tmp_path: Path, given: str, names: list[str], hidden: list[str]
) -> None:
    for name in ("a.csv", "._a.csv", "d/b.csv", "d/_SUCCESS", "_temporary/0/c.csv"):
        boto3.client("s3").put_object(Bucket="audits", Key=f"in/{name}", Body=b"text\none\n")
    left_out = LeftOut()
    copies = local_copies(f"s3://audits/{given}", left_out)
    assert [path.relative_to(copies.place).as_posix() for path in copies.files] == names
    assert left_out.to_json().get("hidden", {"first": []})["first"] == hidden
    manifest = ingest(CorpusConfig(path=f"s3://audits/{given}"), ("a", "b"), Files(tmp_path / "w"))
    assert manifest.documents == len(names)
    assert total(manifest.files_left_out) == len(hidden)


def test_what_is_not_there_is_one_line() -> None:
    with pytest.raises(
        InputError, match=r"corpus.path 's3://audits/none/\*.csv' matches no object in the store"
    ):
        local_copies("s3://audits/none/*.csv")
    with pytest.raises(InputError, match=r"s3://nowhere/a\.csv: the store cannot be used"):
        local_copies("s3://nowhere/a.csv")
