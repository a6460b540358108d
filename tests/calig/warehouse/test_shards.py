from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calig.files import Files
from calig.records import Attribution, Failure
from calig.warehouse.compact import compact
from calig.warehouse.shards import (
    ShardManifest,
    asked_name,
    completed,
    held,
    held_rows,
    manifest_path,
    row_key,
    shard_name,
    sweep,
    write_shard,
)
from tests.material.warehouses import as_before, make_items, make_texts

ITEMS = make_items(make_texts(60, 3), depths=5, seed=3)


def write_many(folder: Path, count: int = 12) -> list[ShardManifest]:
    return [write_shard(Files(folder), folder, ITEMS[number::count], 1.0) for number in range(count)]


def rows(folder: Path, kind: str) -> list[dict[str, object]]:
    """All rows of the shards that count, sorted."""
    paths = [path for manifest in completed(Files(folder), folder) for path in manifest.paths(folder, kind)]
    found = [row for path in paths for row in pq.read_table(path).to_pylist()]
    return sorted(found, key=lambda row: (row["doc_key"], row.get("position", 0)))


def test_the_name_depends_on_the_keys_only() -> None:
    assert shard_name(["b", "a"]) == shard_name(["a", "b"]) != shard_name(["a", "c"])
    assert len(shard_name(["a"])) == 16


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    manifest = write_shard(Files(tmp_path), tmp_path, ITEMS, 2.5)
    attributions = {item.key: item for item in ITEMS if isinstance(item, Attribution)}
    failures = {item.key: item for item in ITEMS if isinstance(item, Failure)}
    assert (manifest.documents, manifest.failures) == (len(ITEMS), len(failures))
    assert manifest.tokens == sum(len(a.tokens) for a in attributions.values())
    tokens = pq.read_table(manifest.paths(tmp_path, "tokens")[0])
    assert pa.types.is_dictionary(tokens.schema.field("token").type)
    keys = np.array(tokens["doc_key"].to_pylist())
    for key, a in attributions.items():
        mine = tokens.filter(pa.array(keys == key))
        assert mine["position"].to_pylist() == list(range(len(a.tokens)))
        assert mine["token"].to_pylist() == a.tokens
        assert mine["word_id"].to_pylist() == a.word_ids.tolist()
        assert np.array_equal(np.stack([mine["char_start"], mine["char_end"]], 1), a.char_spans)
        assert mine["is_special"].to_pylist() == a.is_special.tolist()
        for depth in range(5):
            assert np.array_equal(mine[f"ig_{depth:02d}"], a.layer_ig[depth])
        for block in range(1, 5):
            assert np.array_equal(mine[f"ctx_{block:02d}"], a.context[block - 1])
    for row in rows(tmp_path, "documents"):
        if row["doc_key"] in failures:
            failure = failures[str(row["doc_key"])]
            assert (row["failure"], row["failure_detail"]) == (failure.reason, failure.detail)
            assert all(row[name] is None for name in row if not name.startswith(("failure", "doc_key")))
            continue
        a = attributions[str(row["doc_key"])]
        powers = np.exp(a.logits.astype(float))
        assert row["probability"] == pytest.approx(powers[a.target] / powers.sum(), rel=1e-6)
        assert row["ig_norm"] == pytest.approx(
            [sum(abs(ig) for ig in depth) for depth in a.layer_ig], rel=1e-6
        )
        assert row["context_norm"] == a.context_norm.tolist()
        assert (row["failure"], row["tokens"], row["truncated"]) == (None, len(a.tokens), a.truncated)
        assert (row["converged"], row["nodes"]) == (a.converged.tolist(), a.nodes.tolist())


def test_float_columns_are_split_by_byte_and_others_dictionaries(tmp_path: Path) -> None:
    path = write_shard(Files(tmp_path), tmp_path, ITEMS, 1.0).paths(tmp_path, "tokens")[0]
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    for name, column in columns.items():
        assert column.compression == "ZSTD"
        assert ("BYTE_STREAM_SPLIT" in column.encodings) == name.startswith(("ig_", "ctx_")), name
    assert "RLE_DICTIONARY" in columns["token"].encodings


def test_a_shard_does_not_depend_on_the_order_of_its_items(tmp_path: Path) -> None:
    one = write_shard(Files(tmp_path / "one"), tmp_path / "one", ITEMS, 1.0)
    two = write_shard(Files(tmp_path / "two"), tmp_path / "two", ITEMS[::-1], 1.0)
    assert one.files == two.files


def test_failures_alone_make_a_shard_without_tokens(tmp_path: Path) -> None:
    manifest = write_shard(Files(tmp_path), tmp_path, [Failure("k", "empty", "no text")], 0.1)
    assert manifest.paths(tmp_path, "tokens") == []
    assert held(Files(tmp_path), tmp_path) == {"k"}


def test_wrong_items_are_refused(tmp_path: Path) -> None:
    other = make_items(make_texts(3, 4), depths=3, seed=4)
    for items in ([], [ITEMS[0], ITEMS[0]], [ITEMS[0], other[0]]):
        with pytest.raises(ValueError, match=r"shard"):
            write_shard(Files(tmp_path), tmp_path, items, 1.0)


def test_a_shard_without_manifest_does_not_count_and_is_swept(tmp_path: Path) -> None:
    kept, lost = (
        write_shard(Files(tmp_path), tmp_path, ITEMS[:5], 1.0),
        write_shard(Files(tmp_path), tmp_path, ITEMS[5:9], 1.0),
    )
    manifest_path(tmp_path, lost.shard).unlink()
    (tmp_path / f".tokens-{lost.shard}.parquet.0badcafe.part").write_bytes(b"half")
    assert [manifest.shard for manifest in completed(Files(tmp_path), tmp_path)] == [kept.shard]
    assert held(Files(tmp_path), tmp_path) == {item.key for item in ITEMS[:5]}
    assert sweep(tmp_path) == []  # too young: its writer may be at work
    assert len(sweep(tmp_path, older_than=0)) == 3
    assert {path.name for path in tmp_path.iterdir()} == {*kept.files, f"manifest-{kept.shard}.json"}


@pytest.mark.parametrize("kind", ["tokens", "documents"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_shard_is_set_aside_and_can_be_redone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, damage: str
) -> None:
    bad, good = (
        write_shard(Files(tmp_path), tmp_path, ITEMS[:5], 1.0),
        write_shard(Files(tmp_path), tmp_path, ITEMS[5:9], 1.0),
    )
    path = bad.paths(tmp_path, kind)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else content[:-10])
    with caplog.at_level(logging.WARNING):
        assert [manifest.shard for manifest in completed(Files(tmp_path), tmp_path)] == [good.shard]
    assert bad.shard in caplog.text
    assert (tmp_path / f"manifest-{bad.shard}.json.damaged").is_file()
    assert write_shard(Files(tmp_path), tmp_path, ITEMS[:5], 1.0).files == bad.files
    assert held(Files(tmp_path), tmp_path) == {item.key for item in ITEMS[:9]}


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"files": {"../x": {"sha256": "", "bytes": 0}}}'])
def test_an_unreadable_manifest_is_set_aside(tmp_path: Path, content: str) -> None:
    manifest_path(tmp_path, "feed").write_text(content)
    assert completed(Files(tmp_path), tmp_path) == []
    assert (tmp_path / "manifest-feed.json.damaged").is_file()


def test_a_manifest_survives_json(tmp_path: Path) -> None:
    manifest = replace(write_shard(Files(tmp_path), tmp_path, ITEMS[:2], 1.0), replaces=("a", "b"))
    assert ShardManifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest


def test_merging_keeps_every_row_and_leaves_few_files(tmp_path: Path) -> None:
    manifests = write_many(tmp_path)
    before = rows(tmp_path, "tokens"), rows(tmp_path, "documents")
    merged = compact(Files(tmp_path), tmp_path, min_files=12)
    assert len(merged) == 1
    assert merged[0].replaces == tuple(sorted(manifest.shard for manifest in manifests))
    assert merged[0].seconds == 12.0
    assert (merged[0].documents, merged[0].tokens) == (len(ITEMS), len(before[0]))
    assert merged[0].failures == sum(isinstance(item, Failure) for item in ITEMS)
    assert (rows(tmp_path, "tokens"), rows(tmp_path, "documents")) == before
    assert len(list(tmp_path.iterdir())) == 3


def test_merging_is_the_same_whatever_the_order_of_writing(tmp_path: Path) -> None:
    write_many(tmp_path / "one")
    for number in reversed(range(12)):
        write_shard(Files(tmp_path / "two"), tmp_path / "two", ITEMS[number::12], 1.0)
    one, two = (compact(Files(tmp_path / name), tmp_path / name, min_files=2)[0] for name in ("one", "two"))
    assert one.files == two.files


def test_merging_waits_for_enough_small_shards_and_fills_up_to_the_target(tmp_path: Path) -> None:
    manifests = write_many(tmp_path)
    assert len(compact(Files(tmp_path), tmp_path, min_files=13)) == 12
    target = 4 * max(manifest.bytes for manifest in manifests)
    assert 3 <= len(compact(Files(tmp_path), tmp_path, target_bytes=target, min_files=2)) <= 4


@pytest.mark.parametrize("step", range(1, 8))
def test_a_merge_killed_at_any_step_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    write_many(tmp_path, 4)
    before = rows(tmp_path, "tokens"), rows(tmp_path, "documents")
    done = 0

    def killed(method: str) -> None:
        original = getattr(Path, method)

        def count(self: Path, *args: object, **kwargs: object) -> object:
            nonlocal done
            if ".part" not in self.name or method == "replace":
                done += 1
                if done == step:
                    raise KeyboardInterrupt
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Path, method, count)

    killed("replace")
    killed("unlink")
    with pytest.raises(KeyboardInterrupt):
        compact(Files(tmp_path), tmp_path, min_files=2)
    monkeypatch.undo()
    assert (rows(tmp_path, "tokens"), rows(tmp_path, "documents")) == before
    assert len(compact(Files(tmp_path), tmp_path, min_files=2)) == 1
    sweep(tmp_path, older_than=0)
    assert (rows(tmp_path, "tokens"), rows(tmp_path, "documents")) == before
    assert len(list(tmp_path.iterdir())) == 3


def test_merging_keeps_a_row_of_each_class(tmp_path: Path) -> None:
    """Documents explained for two classes in two shards, one of them for both in each."""
    first = [item for item in ITEMS if isinstance(item, Attribution)][:4]
    others = [replace(item, target=(item.target + 1) % 3) for item in first]
    write_shard(Files(tmp_path), tmp_path, [*first, others[0]], 1.0)
    write_shard(
        Files(tmp_path), tmp_path, [*others[:3], first[0], Failure(first[3].key, "empty", "no text", 2)], 1.0
    )
    expected = {row_key(item.key, item.target) for item in (*first, *others[:3])}
    expected.add(row_key(first[3].key, 2))
    assert held_rows(Files(tmp_path), tmp_path) == expected
    [merged] = compact(Files(tmp_path), tmp_path, min_files=2)
    assert (merged.documents, merged.failures) == (8, 1)
    assert held_rows(Files(tmp_path), tmp_path) == expected
    lengths = {(item.key, item.target): len(item.tokens) for item in (*first, *others[:3])}
    assert Counter((row["doc_key"], row["target"]) for row in rows(tmp_path, "tokens")) == lengths


def test_shards_of_before_are_merged_by_document(tmp_path: Path) -> None:
    write_shard(Files(tmp_path), tmp_path, ITEMS[:6], 1.0)
    write_shard(Files(tmp_path), tmp_path, ITEMS[3:9], 1.0)
    as_before(tmp_path)
    assert (
        held_rows(Files(tmp_path), tmp_path)
        == held(Files(tmp_path), tmp_path)
        == {item.key for item in ITEMS[:9]}
    )
    assert compact(Files(tmp_path), tmp_path, min_files=2)[0].documents == 9
    assert held_rows(Files(tmp_path), tmp_path) == {item.key for item in ITEMS[:9]}
    assert {row["doc_key"] for row in rows(tmp_path, "tokens")} == {
        item.key for item in ITEMS[:9] if isinstance(item, Attribution)
    }


def test_a_shard_is_named_by_documents_and_classes(tmp_path: Path) -> None:
    item = next(item for item in ITEMS if isinstance(item, Attribution))
    other = replace(item, target=(item.target + 1) % 3)
    names = {
        write_shard(Files(tmp_path), tmp_path, items, 1.0).shard for items in ([item], [other], [item, other])
    }
    asked = {asked_name([(item.key, asked)]) for asked in ("predicted", "runner-up", 0, 1)}
    assert len(names) == 3
    assert len(asked) == 4
    assert write_shard(Files(tmp_path), tmp_path, [item], 1.0, name="given").files.keys() == {
        "documents-given.parquet",
        "tokens-given.parquet",
    }


def test_merging_keeps_a_document_of_two_shards_once(tmp_path: Path) -> None:
    write_shard(Files(tmp_path), tmp_path, ITEMS[:6], 1.0)
    write_shard(Files(tmp_path), tmp_path, ITEMS[3:9], 1.0)
    assert compact(Files(tmp_path), tmp_path, min_files=2)[0].documents == 9
    assert len(rows(tmp_path, "documents")) == 9
    assert len(rows(tmp_path, "tokens")) == sum(
        len(i.tokens) for i in ITEMS[:9] if isinstance(i, Attribution)
    )
