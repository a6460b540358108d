"""A warehouse on an S3 server: what one machine finishes, another one finds, whatever fails in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from calig.errors import InputError
from calig.warehouse import lost, mirror
from calig.warehouse.layout import Warehouse
from calig.warehouse.mirror import Mirror
from calig.warehouse.runs import list_runs
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

    def opened(name: str) -> Warehouse:
        elsewhere(tmp_path / name, monkeypatch)
        return Warehouse.open(URL)

    return opened


def test_what_is_finished_on_one_machine_is_on_the_other(machine: Machine) -> None:
    one = machine("one")
    one.files.write_json(one.runs / "r" / "manifest.json", {"n": 1})
    one.files.write_atomic(one.attributions("k") / "tokens-a.parquet", b"rows")
    other = machine("other")
    assert other.root != one.root
    assert (other.runs / "r" / "manifest.json").read_text() == (one.runs / "r" / "manifest.json").read_text()
    assert not other.attributions("k").exists(), "it is fetched when it is wanted"
    other.files.fetch(other.attributions("k"))
    assert (other.attributions("k") / "tokens-a.parquet").read_bytes() == b"rows"


def test_what_changes_or_goes_changes_and_goes_elsewhere(machine: Machine) -> None:
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


def test_what_a_killed_writer_did_not_upload_is_uploaded_next_time(machine: Machine) -> None:
    one = machine("one")
    for name, content in (
        ("attributions/k/tokens-a.parquet", b"t"),
        ("attributions/k/manifest-a.json", b"{}"),
    ):
        (one.root / name).parent.mkdir(parents=True, exist_ok=True)
        (one.root / name).write_bytes(content)
    (one.attributions("k") / ".tokens-b.parquet.0011.part").write_bytes(b"half")
    machine("one")
    other = machine("other")
    other.files.fetch(other.attributions("k"))
    assert sorted(path.name for path in other.attributions("k").iterdir()) == [
        "manifest-a.json",
        "tokens-a.parquet",
    ]


def test_data_are_there_before_the_manifest_that_names_them(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    publish = Mirror.publish
    monkeypatch.setattr(Mirror, "publish", lambda self, path: (order.append(path.name), publish(self, path)))
    one = machine("one")
    for name in ("attributions/k/manifest-a.json", "attributions/k/documents-a.parquet", "corpora/c/manifest.json",
                 "corpora/c/part-0.parquet"):  # fmt: skip
        (one.root / name).parent.mkdir(parents=True, exist_ok=True)
        (one.root / name).write_bytes(b"x")
    machine("one")
    assert order == ["part-0.parquet", "documents-a.parquet", "manifest-a.json", "manifest.json"] or set(
        order[:2]
    ) == {"part-0.parquet", "documents-a.parquet"}


def test_the_newest_tables_win_and_none_are_overwritten(machine: Machine) -> None:
    one = machine("one")
    for content in (b"first", b"second", b"third"):
        one.files.write_atomic(one.database, content)
    other = machine("other")
    assert other.database.read_bytes() == b"third"
    other.files.write_atomic(other.database, b"fourth")
    one = Warehouse(one.root, None)
    stale = Mirror(URL, one.root, *mirror.filesystem(URL, "warehouse"))
    stale.known["calig.duckdb"] = "database/000000003.duckdb"
    one.database.write_bytes(b"fifth, from the third")
    with pytest.raises(InputError, match="another writer was faster"):
        stale.publish(one.database)
    assert machine("one").database.read_bytes() == b"fourth"


def test_one_machine_writes_at_a_time(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = machine("one"), machine("other")
    with one.writer_lock():
        with pytest.raises(InputError, match="another writer is at work \\(pid"), other.writer_lock():
            pass
        with other.writer_lock(other.attributions("k")):
            pass
    with other.writer_lock():
        pass


def test_the_lease_of_a_dead_holder_is_taken_over(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "LEASE_SECONDS", 1.5)
    one = machine("one")
    assert one.mirror is not None
    dead = f"{one.mirror.base}/.leases/database.json"
    one.mirror.files.pipe_file(dead, b'{"holder": "pid 1 on gone", "token": "x"}')
    with pytest.raises(InputError, match="pid 1 on gone"), one.writer_lock():
        pass
    with one.writer_lock(wait=20):
        assert b"gone" not in one.mirror.files.cat_file(dead)
    assert not one.mirror.files.exists(dead)


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


def test_a_lease_is_kept_for_as_long_as_its_holder_lives(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "LEASE_SECONDS", 2.0)
    one, other = machine("one"), machine("other")
    with one.writer_lock(), pytest.raises(InputError, match="another writer"), other.writer_lock(wait=6):
        pass


@pytest.mark.parametrize(
    ("count", "share"), few([(12, 0.15), (40, 0.1)], [(12, 0.15)], "more files, and more waits for the store")
)
def test_errors_throttling_and_silence_pass(machine: Machine, store: Store, count: int, share: float) -> None:
    store.faults = {500: share, 503: share, 0: 0.03}
    one = machine("one")
    for number in range(count):
        one.files.write_atomic(
            one.attributions("k") / f"documents-{number:02d}.parquet", bytes([number]) * 1000
        )
    other = machine("other")
    other.files.fetch(other.attributions("k"))
    found = {path.name: path.read_bytes() for path in other.attributions("k").iterdir()}
    assert found == {f"documents-{n:02d}.parquet": bytes([n]) * 1000 for n in range(count)}
    assert {500, 503} <= set(store.met)


def test_a_store_that_cannot_be_used_is_named_in_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CALIG_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="s3://nowhere: the store cannot be used"):
        Warehouse.open("s3://nowhere")
    with pytest.raises(
        InputError, match=r"no warehouse at s3://audits/none: run `calig audit CONFIG\.yaml` first"
    ):
        Warehouse.open("s3://audits/none", create=False)
    with pytest.raises(InputError, match="s4://x"):
        Warehouse.open("s4://x")
