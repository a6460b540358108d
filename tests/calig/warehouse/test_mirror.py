"""A warehouse on an S3 server: what one machine finishes, another one finds, whatever fails in between."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from calig.errors import InputError
from calig.storage import lease as lease_module
from calig.storage.lease import Lease
from calig.storage.store import open_store
from calig.warehouse import leases, lost
from calig.warehouse.compact import compact
from calig.warehouse.layout import Warehouse
from calig.warehouse.mirror import Mirror
from calig.warehouse.runs import list_runs
from calig.warehouse.shards import ShardManifest, completed, held, manifest_path, shard_name, write_tables
from tests.material.object_store import Store, elsewhere
from tests.material.tiers import few

URL = "s3://audits/nightly"
Machine = Callable[[str], Warehouse]
_RUN = {
    **{"name": "nightly", "started": "2026-01-01T02:00:00+00:00", "finished": None, "depths": 2},
    **{
        "model": {"classes": ["a", "b"]},
        "corpus": {"key": "k"},
        "attribution_key": "k",
        "method": {"weight": 0.5},
    },
    **{"attributed": 0, "reused": 0, "config": {}, "versions": {}, "timings": {}},
}


@pytest.fixture
def machine(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Open the warehouse as a machine of that name does: with a mirror of its own."""
    monkeypatch.setattr(leases, "BRIEF_SECONDS", 0.0)

    def opened(name: str) -> Warehouse:
        elsewhere(tmp_path / name, monkeypatch)
        return Warehouse.open(URL)

    return opened


def _shard(warehouse: Warehouse, *keys: str, target: int = 0) -> ShardManifest:
    """Write a shard of documents with these keys, explained for a class, as a worker does."""
    targets = pa.array([target] * len(keys), pa.int32())
    failures = pa.array([None] * len(keys), pa.string())
    table = pa.table({"doc_key": list(keys), "target": targets, "failure": failures})
    name = shard_name([*keys, str(target)] if target else keys)
    folder, counts = warehouse.attributions("k"), {"documents": len(keys), "failures": 0, "tokens": 0}
    return write_tables(warehouse.files, folder, name, {"documents": table}, seconds=1.0, **counts)


def test_what_is_finished_on_one_machine_is_on_the_other(machine: Machine) -> None:
    one = machine("one")
    one.files.write_json(one.runs / "r" / "manifest.json", {"n": 1})
    shard = _shard(one, "a", "b")
    other = machine("other")
    assert other.root != one.root
    assert (other.runs / "r" / "manifest.json").read_text() == (one.runs / "r" / "manifest.json").read_text()
    assert not other.attributions("k").exists(), "it is fetched when it is wanted"
    assert completed(other.files, other.attributions("k")) == [shard]


def test_a_file_is_replaced_and_a_folder_deleted_elsewhere_too(machine: Machine) -> None:
    one = machine("one")
    for name in ("a", "b"):
        one.files.write_json(one.runs / name / "manifest.json", {"n": 1})
    machine("other")
    one = machine("one")
    one.files.write_json(one.runs / "a" / "manifest.json", {"n": 22})
    one.files.discard(one.runs / "b")
    other = machine("other")
    assert '"n": 22' in (other.runs / "a" / "manifest.json").read_text()
    assert not (other.runs / "b" / "manifest.json").exists()
    assert one.mirror is not None
    one.files.write_json(one.tags / "t", {"run_id": "a"})
    left = [entry.name for entry in one.mirror.store.list("objects/")]
    assert sorted(name.rpartition("/")[0] for name in left) == [
        "objects/runs/a/manifest.json",
        "objects/tags/t",
    ], "what was replaced is deleted with the next change"


def test_a_change_from_another_machine_is_not_overwritten(machine: Machine) -> None:
    one = machine("one")
    path = one.runs / "r" / "manifest.json"
    one.files.write_json(path, {"n": 1})
    other = machine("other")
    other.files.write_json(other.runs / "r" / "manifest.json", {"n": 2})
    with pytest.raises(InputError, match=r"runs/r/manifest.json was changed from another machine meanwhile"):
        one.files.write_json(path, {"n": 3})
    other.files.write_json(other.runs / "r" / "gates.json", [])
    other.files.discard(other.runs / "r")
    one = machine("one")
    assert not path.exists()
    one.files.write_json(one.runs / "s" / "manifest.json", {"n": 1})
    other = machine("other")
    other.files.discard(other.runs / "s")
    with pytest.raises(InputError, match=r"runs/s/gates.json was deleted from another machine meanwhile"):
        one.files.write_json(one.runs / "s" / "gates.json", [])
    assert not (machine("third").runs / "s").exists()


def test_what_a_killed_writer_did_not_upload_is_uploaded_next_time(machine: Machine) -> None:
    one = machine("one")
    one.files.write_json(one.tags / "t", {"run_id": "r"})
    shard = _shard(Warehouse(one.root), "a")  # which has no mirror: nothing is uploaded
    (one.tags / "t").write_text('{"run_id": "s"}')
    (one.attributions("k") / ".tokens-b.parquet.0011.part").write_bytes(b"half")
    machine("one")
    other = machine("other")
    assert json.loads((other.tags / "t").read_text()) == {"run_id": "s"}
    assert completed(other.files, other.attributions("k")) == [shard]
    assert len(list(other.attributions("k").iterdir())) == 2


def test_what_a_killed_writer_wrote_and_another_changed_since_is_given_up(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    one = machine("one")
    one.files.write_json(one.tags / "t", {"run_id": "r"})
    other = machine("other")
    (one.tags / "u").write_text('{"run_id": "one"}')
    other.files.write_json(other.tags / "u", {"run_id": "other"})
    assert json.loads((machine("one").tags / "u").read_text()) == {"run_id": "other"}
    assert "tags/u was changed from another machine meanwhile" in caplog.text


def test_data_are_there_before_the_manifest_that_names_them(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    one = machine("one")
    _shard(Warehouse(one.root), "a")
    publish = Mirror.publish
    monkeypatch.setattr(Mirror, "publish", lambda self, path: (order.append(path.name), publish(self, path)))
    machine("one")
    assert [name.partition("-")[0] for name in order] == ["documents", "manifest"]


def test_of_two_shards_with_the_same_document_the_first_that_is_named_counts(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that slept through a takeover wakes and writes what another one has written meanwhile."""
    asleep, one = machine("asleep"), machine("one")
    first = _shard(one, "a", "b")
    assert completed(one.files, one.attributions("k")) == [first]
    late = _shard(asleep, "b", "c")
    reader = Warehouse(asleep.root, Mirror(URL, asleep.root, open_store(URL)))
    assert completed(reader.files, reader.attributions("k")) == [first], (
        "the late one is here, and does not count"
    )
    assert held(one.files, one.attributions("k")) == {"a", "b"}
    assert f"shard {late.shard} does not count" in caplog.text
    assert completed(asleep.files, asleep.attributions("k")) == [first]
    assert not manifest_path(asleep.attributions("k"), late.shard).exists()
    assert asleep.mirror is not None
    assert len(asleep.mirror.store.list("objects/attributions/k/")) == 2, "the late ones are deleted"
    other_class = _shard(asleep, "b", target=1)
    shards = {shard.shard for shard in completed(one.files, one.attributions("k"))}
    assert shards == {first.shard, other_class.shard}, "the same document, and another row"


def test_shards_are_merged_once_and_what_they_were_merged_from_is_deleted(machine: Machine) -> None:
    one = machine("one")
    for key in "abcd":
        _shard(one, key)
    other = machine("other")
    folder = other.attributions("k")
    before = completed(other.files, folder)
    [merged] = compact(one.files, one.attributions("k"), min_files=2)
    with pytest.raises(InputError, match="the shards of attributions/k were changed from another machine"):
        _merge_stale(other, before)
    assert completed(other.files, folder) == [merged]
    assert held(machine("third").files, machine("third").attributions("k")) == set("abcd")
    assert one.mirror is not None
    assert len(one.mirror.store.list("objects/attributions/k/")) == 2


def _merge_stale(warehouse: Warehouse, shards: list[ShardManifest]) -> None:
    """Merge shards as one who does not know yet that another has merged them."""
    from calig.warehouse import compact as compacting

    keys = [pa.array([key]) for key in "abcd"][:3]
    compacting._merge(warehouse.files, warehouse.attributions("k"), shards[:3], keys)


def test_a_damaged_shard_is_done_again(machine: Machine) -> None:
    one = machine("one")
    shard = _shard(one, "a")
    assert completed(one.files, one.attributions("k")) == [shard]
    [name] = shard.files
    path = one.attributions("k") / name
    path.write_bytes(b"x" * path.stat().st_size)
    assert completed(one.files, one.attributions("k")) == []
    _shard(one, "a")
    assert held(one.files, one.attributions("k")) == {"a"}
    other = machine("other")
    assert held(other.files, other.attributions("k")) == {"a"}


def test_the_newest_tables_win_and_none_are_overwritten(machine: Machine) -> None:
    one = machine("one")
    for content in (b"first", b"second", b"third"):
        one.files.write_atomic(one.database, content)
    other = machine("other")
    assert other.database.read_bytes() == b"third"
    other.files.write_atomic(other.database, b"fourth")
    with pytest.raises(InputError, match="another writer was faster"):
        one.files.write_atomic(one.database, b"fourth, from the third")
    assert machine("third").database.read_bytes() == b"fourth"
    with one.writer_lock():
        assert one.database.read_bytes() == b"fourth", "who is to write it has the newest"


def test_one_machine_writes_at_a_time(machine: Machine) -> None:
    one, other = machine("one"), machine("other")
    with one.writer_lock():
        with pytest.raises(InputError, match="another writer is at work \\(pid"), other.writer_lock():
            pass
        with other.writer_lock(other.attributions("k")):
            pass
    with other.writer_lock():
        pass


def test_a_writer_whose_lease_was_taken_writes_nothing_more(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 1.0)
    asleep, other = machine("asleep"), machine("other")
    monkeypatch.setattr(leases, "_renewed", lambda lease: threading.Lock())  # it is frozen: nothing renews
    with asleep.writer_lock():
        with other.writer_lock(wait=20):
            other.files.write_json(other.tags / "t", {"run_id": "other"})
        with pytest.raises(InputError, match="the right to write was lost"):
            asleep.files.write_json(asleep.tags / "t", {"run_id": "asleep"})
    assert json.loads((machine("third").tags / "t").read_text()) == {"run_id": "other"}


def test_the_lease_of_a_dead_holder_is_taken_over(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    one = machine("one")
    dead = Lease(open_store(URL), holder="pid 1 on gone")
    dead.take()
    with pytest.raises(InputError, match="pid 1 on gone"), one.writer_lock():
        pass
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 1.0)
    with one.writer_lock(wait=20):
        one.files.write_json(one.tags / "t", {"run_id": "r"})
    here = Lease(open_store(URL), holder="pid 2 here", machine=one.mirror.leases.machine)  # type: ignore[union-attr]
    here.take()
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 100.0)
    with one.writer_lock():
        pass  # at once: this machine's lock is free, so its process is dead


def test_a_run_is_lost_when_the_machine_that_is_at_it_lets_go(machine: Machine) -> None:
    one = machine("one")
    manifest = {**_RUN, "run_id": "r", "status": "running"}
    one.files.write_json(one.run("r") / "manifest.json", manifest)
    hold = lost.Hold(one.run("r"), one.mirror)
    other = machine("other")
    [run] = list_runs(other)
    assert not lost.is_lost(other, run), "there is no lock to be seen here"
    hold.release()
    assert lost.is_lost(other, run)
    one.files.write_json(one.run("r") / "manifest.json", manifest | {"status": "complete"})
    assert not lost.is_lost(other, run), "it came to its end since it was listed"


def test_a_lease_is_kept_for_as_long_as_its_holder_lives(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 2.0)
    one, other = machine("one"), machine("other")
    with one.writer_lock(), pytest.raises(InputError, match="another writer"), other.writer_lock(wait=3):
        pass


@pytest.mark.parametrize(
    ("count", "share"), few([(12, 0.15), (40, 0.1)], [(12, 0.15)], "more files, and more waits for the store")
)
def test_errors_throttling_and_silence_pass(machine: Machine, store: Store, count: int, share: float) -> None:
    store.faults = {500: share, 503: share, 0: 0.03}
    one = machine("one")
    for number in range(count):
        _shard(one, f"{number}")
    other = machine("other")
    assert held(other.files, other.attributions("k")) == {f"{number}" for number in range(count)}
    assert {500, 503} <= set(store.met)


def test_a_store_without_conditional_writes_is_read_and_not_written(machine: Machine, store: Store) -> None:
    machine("one").files.write_json(machine("one").tags / "t", {"run_id": "r"})
    store.conditional = False
    with pytest.raises(InputError, match=r"s3://audits/nightly: this store has no conditional writes"):
        machine("two")
    reader = Warehouse.open(URL, create=False)
    assert (reader.tags / "t").is_file()
    with pytest.raises(InputError, match="no conditional writes"):
        reader.files.write_json(reader.tags / "u", {"run_id": "r"})


def test_a_warehouse_of_before_the_protocol_is_read_and_becomes_one_of_it_when_it_is_written(
    machine: Machine, tmp_path: Path
) -> None:
    old = Warehouse(tmp_path / "old")
    shard = _shard(old, "a")
    old.files.write_json(old.run("r") / "manifest.json", {"n": 1})
    bucket = open_store(URL)
    for path in [path for path in old.root.rglob("*") if path.is_file()]:
        bucket.put(path.relative_to(old.root).as_posix(), path)
    for number in (1, 2):
        bucket.put(f"database/{number:09d}.duckdb", f"{number}".encode())
    bucket.put(".leases/database.json", b"{}")

    one = machine("one")
    assert one.database.read_bytes() == b"2"
    assert completed(one.files, one.attributions("k")) == [shard]
    assert not bucket.list("index/"), "nothing was written yet"
    late = _shard(one, "b")
    one.files.write_json(one.run("r") / "manifest.json", {"n": 2})
    other = machine("other")
    assert json.loads((other.run("r") / "manifest.json").read_text()) == {"n": 2}
    assert other.database.read_bytes() == b"2"
    assert {one.shard for one in completed(other.files, other.attributions("k"))} == {shard.shard, late.shard}


def test_a_warehouse_in_a_folder_by_its_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = (tmp_path / "store").as_uri()
    elsewhere(tmp_path / "one", monkeypatch)
    one = Warehouse.open(url)
    shard = _shard(one, "a")
    one.files.write_json(one.tags / "t", {"run_id": "r"})
    elsewhere(tmp_path / "other", monkeypatch)
    other = Warehouse.open(url)
    assert (other.tags / "t").is_file()
    assert completed(other.files, other.attributions("k")) == [shard]


def test_a_store_that_cannot_be_used_is_named_in_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CALIG_CACHE", str(tmp_path))
    for create in (True, False):
        with pytest.raises(InputError, match="s3://nowhere: the store cannot be used"):
            Warehouse.open("s3://nowhere", create=create)
    with pytest.raises(
        InputError, match=r"no warehouse at s3://audits/none: run `calig audit CONFIG\.yaml` first"
    ):
        Warehouse.open("s3://audits/none", create=False)
    with pytest.raises(InputError, match="s4://x"):
        Warehouse.open("s4://x")


def test_a_warehouse_of_a_newer_format_is_refused_in_one_line(machine: Machine) -> None:
    open_store(URL).put("CURRENT", b'{"format": 99}')
    with pytest.raises(InputError, match="the warehouse's format is 99, and this calig reads up to 1"):
        machine("one")
