"""What is being read is not deleted: another process reads, and this one compacts and prunes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pytest

from calig.errors import InputError
from calig.warehouse import pins
from calig.warehouse import query as querying
from calig.warehouse.compact import compact
from calig.warehouse.layout import Warehouse
from calig.warehouse.lost import Hold
from calig.warehouse.pins import pinned, pinned_runs, unpinned
from calig.warehouse.prune import prune
from calig.warehouse.query import open_run, query
from calig.warehouse.shards import completed
from tests.material.tiers import extended

RUNS = ("nightly-00", "nightly-01", "nightly-02")
COUNT = "SELECT count(*) FROM tokens"


@contextmanager
def reader(warehouse: Warehouse, run_id: str) -> Iterator[subprocess.Popen[str]]:
    """A process that opens a run and says so; told to go on, it counts the run's tokens, which it has not read yet."""
    code = f"""
import sys
from contextlib import closing
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_run
with closing(open_run(Warehouse.open({str(warehouse.root)!r}, create=False), {run_id!r})) as connection:
    print("open", flush=True)
    sys.stdin.readline()
    print(connection.execute({COUNT!r}).fetchone()[0], flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


def answer(process: subprocess.Popen[str]) -> int:
    out, _ = process.communicate("\n", timeout=60)
    return int(out)


def shard_files(folder: Path) -> int:
    return len(list(folder.glob("tokens-*.parquet")))


def test_an_open_query_reads_on_while_its_shards_are_merged_and_its_run_is_pruned(nights: Warehouse) -> None:
    """Its rows are right, what it reads stays; when it is closed all that goes, which had to."""
    warehouse, runs = nights, RUNS
    folder = warehouse.attributions("model-a")
    [(expected,)] = query(warehouse, COUNT, runs[0]).rows
    with reader(warehouse, runs[0]) as process:
        [merged] = compact(nights.files, folder, min_files=2)
        assert shard_files(folder) == len(merged.replaces) + 1
        kept = prune(warehouse, keep=1)  # writes the merged shard anew, the others being there still
        assert kept.runs == (runs[1],)
        assert f"runs/{runs[0]}" in kept.pinned
        assert query(warehouse, COUNT, runs[0]).rows == [(expected,)]
        assert answer(process) == expected
    done = prune(warehouse, keep=1)
    assert (done.runs, done.pinned) == ((runs[0],), ())
    assert shard_files(folder) == 1
    assert sum(shard.documents for shard in completed(nights.files, folder)) == 8
    assert not warehouse.run(runs[0]).exists()
    assert query(warehouse, "SELECT count(*) FROM documents", runs[2]).rows == [(8,)]


@extended("a second process; the first tier has one with a pin")
def test_a_reader_that_is_killed_leaves_no_pin(nights: Warehouse) -> None:
    folder = nights.attributions("model-a")
    with reader(nights, RUNS[0]) as process:
        compact(nights.files, folder, min_files=2)
        assert shard_files(folder) == len(RUNS) + 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        compact(nights.files, folder, min_files=2)
        assert shard_files(folder) == 1


def test_a_connection_is_a_pin_as_long_as_it_is_there(nights: Warehouse) -> None:
    folder = nights.attributions("model-a")

    def read() -> None:
        with closing(open_run(nights, RUNS[0])), unpinned(folder) as free:
            assert not free

    read()
    with unpinned(folder) as free:
        assert free
    with pytest.raises(InputError):
        open_run(nights, "nobody")


def test_a_warehouse_that_cannot_be_written_is_pinned_too(nights: Warehouse) -> None:
    files = sorted(nights.root.rglob("*"))
    with pinned_runs(nights, RUNS[0]), unpinned(nights.run(RUNS[0])) as free:
        assert not free
    assert sorted(nights.root.rglob("*")) == files, "it takes no file"


def test_of_many_runs_the_folders_above_are_pinned(
    nights: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins, "FEW", 0)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pinned_runs(nights, *[RUNS[0]] * 100):
        assert len(list(Path("/proc/self/fd").iterdir())) - before <= 3
        for folder in (nights.runs, nights.corpora, nights.attributions("")):
            with unpinned(next(folder.iterdir())) as free:
                assert not free


def test_what_is_moved_away_before_it_is_pinned_is_not_taken_for_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with pinned(folder):
        folder.mkdir()
        with unpinned(folder) as free:
            assert free


def test_a_run_under_way_is_not_pruned_though_it_is_taken_for_failed(nights: Warehouse) -> None:
    folder = nights.run(RUNS[0])
    held = Hold(folder)
    try:
        done = prune(nights, keep=1)
        assert (done.runs, done.pinned) == ((RUNS[1],), (f"runs/{RUNS[0]}",))
    finally:
        held.release()
    assert prune(nights, keep=1).runs == (RUNS[0],)


def test_where_folders_cannot_be_locked_files_are_found_again(
    nights: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compaction between the listing of the shards and their reading is not seen in the answer."""
    folder = nights.attributions("model-a")
    expected = query(nights, COUNT).rows

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    listed = querying.run_files

    def and_compacted(*given: str) -> object:
        found = listed(*given)  # type: ignore[arg-type]
        compact(nights.files, folder, min_files=2)
        return found

    monkeypatch.setattr(querying, "run_files", and_compacted)
    assert query(nights, COUNT).rows == expected
    assert shard_files(folder) == 1


def test_a_file_that_goes_again_and_again_is_said_in_a_line(
    nights: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def gone(*_: object) -> None:
        tries.append(1)
        raise duckdb.IOException("IO Error: No files found that match the pattern tokens-1.parquet")

    monkeypatch.setattr(querying, "create_views", gone)
    with pytest.raises(InputError, match=r"deleted while it was read .*tokens-1.*run the command again"):
        query(nights, COUNT)
    assert len(tries) == querying.TRIES
