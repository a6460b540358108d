"""The order of a corpus's parts: sorted outside of memory, the same everywhere, every prefix a random sample."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from calig.config import CorpusConfig
from calig.corpus import CorpusManifest, files, ingest, load_corpus, order, parts
from calig.corpus.manifest import describe
from calig.corpus.order import Sorter, places
from calig.corpus.reading import read_rows
from calig.files import Files
from calig.records import document_key
from calig.warehouse.missing import Shards, missing_documents
from tests.material.fuzz import examples
from tests.material.parts import source_rows

CLASSES = ["bad", "good"]


def bring(root: Path, columns: dict[str, Any], **corpus: Any) -> CorpusManifest:
    root.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), root / "a.parquet", row_group_size=500)
    return ingest(CorpusConfig(path=str(root / "a.parquet"), **corpus), CLASSES, Files(root))


def in_parts(manifest: CorpusManifest, root: Path, *columns: str) -> pa.Table:
    return read_rows(manifest, Files(root), columns)


def in_source_order(manifest: CorpusManifest, root: Path) -> CorpusManifest:
    """Write a corpus's parts anew as earlier versions did, whose manifests said nothing of an order."""
    rows = source_rows(manifest, root)
    for part in manifest.parts(root):
        part.unlink()
    folder = manifest.folder(root)
    for number, first in enumerate(range(0, len(rows), 1000)):
        pq.write_table(rows.slice(first, 1000), folder / f"part-{number:05d}.parquet", row_group_size=300)
    held = {path.name: describe(path) for path in folder.glob("part-*")}
    written = {k: v for k, v in asdict(manifest).items() if k != "order"} | {"files": held}
    (folder / "manifest.json").write_text(json.dumps(written))
    return load_corpus(Files(root), manifest.key)


def test_half_of_the_shards_are_a_random_sample_of_a_sorted_corpus(tmp_path: Path) -> None:
    """Classes, lengths and places in the source, of the first half of a run's shards against the other half."""
    rows = 4000
    texts = [f"{number} " + "word " * (number // 400) for number in range(rows)]
    manifest = bring(tmp_path, {"text": texts, "label": [2 * n // rows for n in range(rows)]}, label="label")
    shards = Shards(missing_documents(manifest.parts(tmp_path), []), 100)
    half = {doc_id for shard in shards[: len(shards) // 2] for doc_id in shard}
    assert len(half) == rows // 2
    for groups in (2, 10, 40):  # classes, lengths, stretches of the source
        counts = Counter((doc_id in half, doc_id * groups // rows) for doc_id in range(rows))
        table = [[counts[side, group] for group in range(groups)] for side in (True, False)]
        assert chi2_contingency(table).pvalue > 0.01


def test_parts_lie_in_the_order_of_a_hash_and_rows_keep_their_numbers(tmp_path: Path) -> None:
    texts = [f"text {number % 700}" for number in range(1000)]
    manifest = bring(tmp_path, {"text": texts})
    found = in_parts(manifest, tmp_path, "doc_id", "doc_key", "text").to_pylist()
    assert manifest.order == "doc_key"
    assert [row["doc_key"] for row in found] == [document_key(texts[row["doc_id"]]) for row in found]
    placed = list(zip(places(row["doc_key"] for row in found), (row["doc_id"] for row in found), strict=True))
    assert placed == sorted(placed), "of one key, neighbours in the order of the source"
    assert sorted(row["doc_id"] for row in found) == list(range(1000))


def test_those_that_come_first_are_not_those_of_the_smallest_keys() -> None:
    keys = [document_key(str(number)) for number in range(2000)]
    smallest = set(sorted(keys)[:200])
    first = set(np.array(keys)[np.argsort(places(keys))][:200])
    assert len(first & smallest) < 40  # 20 by chance


@pytest.mark.parametrize("memory", [1, 5_000, 2**25])
@pytest.mark.parametrize("batch", [7, 2000])
def test_the_same_bytes_whatever_is_held_and_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, batch: int
) -> None:
    rows = 300
    columns = {
        "text": [None if n % 50 == 3 else f"text {n % 200} " * (n % 9) for n in range(rows)],
        "spans": [None if n % 7 == 0 else [[n, n + 1]] * (n % 4) for n in range(rows)],
        "deep": [{"a": n, "b": [str(n)] * (n % 3)} for n in range(rows)],
        "stars": pa.array([n % 3 or None for n in range(rows)], pa.int16()),
    }
    monkeypatch.setattr(parts, "GROUP_BYTES", 4_000)
    monkeypatch.setattr(parts, "PART_BYTES", 9_000)
    usual = bring(tmp_path / "usual", columns)
    assert len(usual.files) > 2
    monkeypatch.setattr(order, "MEMORY", memory)
    monkeypatch.setattr(order, "BUCKETS", 3)
    monkeypatch.setattr(files, "BATCH_ROWS", batch)
    other = bring(tmp_path / "other", columns)
    assert (other.key, other.files) == (usual.key, usual.files)
    assert not list((tmp_path / "other" / "corpora").glob("**/*.arrow"))


@examples(50)
@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=30), max_size=6),
    st.sampled_from([1, 200, 10_000]),
)
def test_the_sorter_sorts_and_keeps_equals_in_order(
    tmp_path_factory: pytest.TempPathFactory, tables: list[list[int]], memory: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "MEMORY", memory)
        patch.setattr(order, "BUCKETS", 4)
        sorter = Sorter(tmp_path_factory.mktemp("sorter") / "s")
        number = 0
        given_rows = []
        for table in tables:
            numbers = list(range(number, number + len(table)))
            sorter.add(pa.table({"n": pa.array(numbers, pa.int64())}), np.array(table, np.uint64))
            given_rows += zip(table, numbers, strict=True)
            number += len(table)
        found = [n for rows in sorter.rows() for n in rows["n"].to_pylist()]
        assert found == [n for _, n in sorted(given_rows)]
        assert not sorter.folder.exists() or not list(sorter.folder.iterdir())


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MEMORY", 2**20)
    monkeypatch.setattr(parts, "GROUP_BYTES", 2**20)
    held = []
    sorter = Sorter(tmp_path / "s")
    before = pa.total_allocated_bytes()
    for number in range(100):
        text = pa.array([f"{number}" * 1000] * 100)
        sorter.add(pa.table({"text": text}), places(f"{number} {row}" for row in range(100)))
        held.append(pa.total_allocated_bytes() - before)
    (tmp_path / "parts").mkdir()
    written = parts.Parts(tmp_path / "parts", pa.schema([("text", pa.string())]))
    for rows in sorter.rows():
        written.write(rows)
        held.append(pa.total_allocated_bytes() - before)
    written.close()
    assert sum(pq.read_metadata(path).num_rows for path in (tmp_path / "parts").iterdir()) == 10_000
    assert max(held) < 6 * 2**20, "of about 20 MB"


@pytest.mark.parametrize("texts", [[], ["one"], ["same"] * 5])
def test_few_documents(tmp_path: Path, texts: list[str]) -> None:
    manifest = bring(tmp_path, {"text": pa.array(texts, pa.string())})
    assert in_parts(manifest, tmp_path, "doc_id")["doc_id"].to_pylist() == list(range(len(texts)))
    assert missing_documents(manifest.parts(tmp_path), []).tolist() == [0][: len(texts)]


def test_rows_are_read_in_the_order_asked_for_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "GROUP_ROWS", 10)
    monkeypatch.setattr(parts, "PART_ROWS", 30)
    texts = [f"text {number}" for number in range(100)]
    manifest = bring(tmp_path, {"text": texts})
    for kind in ("doc_key", "source"):
        if kind == "source":
            manifest = in_source_order(manifest, tmp_path)
        for wanted in ([], [7], [99, 0, 50], list(range(99, -1, -1))):
            rows = read_rows(manifest, Files(tmp_path), ["text", "doc_id", "nothing"], wanted)
            assert rows.to_pylist() == [{"text": texts[n], "doc_id": n} for n in wanted]
        for wrong in (100, -1):
            with pytest.raises(IndexError, match=f"has no row {wrong}"):
                read_rows(manifest, Files(tmp_path), ["text"], [3, wrong])


def test_a_shard_reads_its_row_groups_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "GROUP_ROWS", 100)
    manifest = bring(tmp_path, {"text": [f"text {number}" for number in range(1000)]})
    shard = Shards(missing_documents(manifest.parts(tmp_path), []), 50)[7]
    read: list[list[str]] = []
    plain = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda file, group, columns: (read.append(columns), plain(file, group, columns))[1],
    )
    assert len(read_rows(manifest, Files(tmp_path), ["text"], shard)) == 50
    assert read.count(["text"]) == 1
    assert len(read) == 5, "and no numbers beyond the last"


def test_a_corpus_of_an_earlier_version_is_read_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {"text": [f"text {number}" for number in range(2500)]}
    old = in_source_order(bring(tmp_path, columns), tmp_path)
    assert old.order == "source"
    assert missing_documents(old.parts(tmp_path), []).tolist() == list(range(2500))
    held = {path: path.stat().st_mtime_ns for path in old.parts(tmp_path)}
    again = bring(tmp_path, columns)
    assert (again.key, again.order, again.files) == (old.key, "source", old.files)
    assert {path: path.stat().st_mtime_ns for path in again.parts(tmp_path)} == held
    old.parts(tmp_path)[0].write_bytes(b"damaged")
    assert bring(tmp_path, columns).order == "doc_key", "a damaged one is brought in again"


def test_images_are_sorted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MEMORY", 5_000)
    data = [bytes([number]) * 400 for number in range(60)]
    pq.write_table(
        pa.table({"image": [{"bytes": one, "path": None} for one in data]}), tmp_path / "a.parquet"
    )
    corpus = CorpusConfig(path=str(tmp_path / "a.parquet"))
    manifest = ingest(corpus, CLASSES, Files(tmp_path), modality="image")
    rows = in_parts(manifest, tmp_path, "doc_id", "doc_key", "image_bytes").to_pylist()
    assert [row["image_bytes"] for row in rows] == [data[row["doc_id"]] for row in rows]
    assert [row["doc_id"] for row in rows] != list(range(60))
    placed = places(row["doc_key"] for row in rows).tolist()
    assert placed == sorted(placed)
