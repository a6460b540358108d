"""The same audit on several processes or Ray nodes: the same results, whatever dies on the way."""

from __future__ import annotations

import itertools
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from calig.engines import Engine
from calig.engines.processes import Processes
from tests.material.ray_cluster import add_node, nodes
from tests.material.services import wait_for
from tests.material.tiers import extended
from tests.material.tiny import (
    assert_same_tables,
    audit_config,
    make_rows,
    run_manifest,
    shard_times,
    write_parquet,
)

RAY = extended("a Ray cluster of two nodes, and whole audits on it")
SLOW = {"method": {"steps": 60}}
"""Each of the 60 documents takes many nodes."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty documents."""
    return write_parquet(tmp_path_factory.mktemp("corpus") / "corpus.parquet", make_rows(60, seed=3))


@pytest.fixture(scope="module")
def ray_nodes() -> Iterator[Any]:
    """A Ray cluster of two nodes of two CPUs; a test that kills one adds another."""
    pytest.importorskip("ray")
    with nodes(2, cpus=2) as cluster:
        yield cluster


class Hold:
    """Lets an engine begin so many shards, and the rest when it is released.

    However slow the machine is, the run cannot end before what is to happen in it has happened.
    """

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.begun = itertools.count()
        self.released = threading.Event()

    def take(self, engine: Any) -> None:
        """Hold an engine that has done nothing yet."""
        run = engine.run

        def held(*arguments: Any, **options: Any) -> Any:
            if next(self.begun) >= self.shards:
                assert self.released.wait(300), "nobody released the engine"
            return run(*arguments, **options)

        engine.run = held


class AllAtOnce(Hold):
    """Begins when all four of a Ray engine's workers are there, so that each takes one of the first shards."""

    def take(self, engine: Any) -> None:
        wait_for(lambda: engine._free.qsize() == 4, 300, "four workers")
        super().take(engine)


class Watched:
    """Audits the corpus on an engine, which it keeps for a look at it."""

    def __init__(self, model: Path, corpus: Path) -> None:
        self.model, self.corpus = model, corpus
        self.engines: list[Engine] = []

    def audit(self, warehouse: Path, hold: Hold | None = None, **runtime: Any) -> str:
        """Return the run's id."""
        from flows import shards
        from flows.audit import audit

        works = shards.open_engine

        @contextmanager
        def watched(config: Any) -> Iterator[Engine]:
            with works(config) as engine:
                self.engines.append(engine)
                if hold:
                    hold.take(engine)
                yield engine

        asked = {"shard_documents": 3, "threads": 1, **runtime}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shards, "open_engine", watched)
            return audit(audit_config(self.model, self.corpus, warehouse, **SLOW, runtime=asked)).run_id


@pytest.fixture
def watched(prefect_server: str, tiny_model: Path, corpus: Path) -> Watched:
    return Watched(tiny_model, corpus)


@pytest.fixture(scope="module")
def alone(
    prefect_server: str, tiny_model: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """The warehouse and run of an audit in this process alone."""
    warehouse = tmp_path_factory.mktemp("alone") / "w"
    return warehouse, Watched(tiny_model, corpus).audit(warehouse)


@contextmanager
def once(condition: Callable[[], object], act: Callable[[], None]) -> Iterator[None]:
    """Act, in another thread, once a condition holds within the block; it must have."""
    failed: list[BaseException] = []
    over = threading.Event()

    def watch() -> None:
        try:
            while not condition():
                assert not over.wait(0.01), "it did not come to it"
            act()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not failed, failed


def contents(warehouse: Path, kind: str) -> list[dict[str, Any]]:
    """All rows of a kind of the shards, sorted, without times."""
    tables = [pq.read_table(path) for path in warehouse.glob(f"attributions/*/{kind}-*.parquet")]
    rows = [row for table in tables for row in table.to_pylist()]
    for row in rows:
        row.pop("seconds", None)
    return sorted(rows, key=lambda row: (row["doc_key"], row.get("position")))


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same, but for the order in which numbers are added up."""
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9) if isinstance(other, float) else one == other


def assert_same_results(warehouse: Path, run_id: str, alone: tuple[Path, str]) -> None:
    """The tables and the shards are those of the audit in one process, and nothing was done twice."""
    assert_same_tables(warehouse, run_id, *alone, tolerance=1e-9)
    manifest = run_manifest(warehouse, run_id)
    assert (manifest["attributed"], manifest["reused"]) == (60, 0)
    for kind in ("documents", "tokens"):
        ours, theirs = contents(warehouse, kind), contents(alone[0], kind)
        assert len(ours) == len(theirs) > 0
        for one, other in zip(ours, theirs, strict=True):
            assert all(same(one[name], other[name]) for name in other), (kind, one, other)


def test_a_process_killed_in_its_shard_loses_nothing(
    watched: Watched, alone: tuple[Path, str], tmp_path: Path
) -> None:
    warehouse, killed, hold = tmp_path / "w", [], Hold(12)

    def kill() -> None:
        [engine] = watched.engines
        assert isinstance(engine, Processes)
        killed.extend(engine.pids[:1])
        hold.released.set()
        os.kill(killed[0], signal.SIGKILL)

    with once(lambda: watched.engines and len(watched.engines[0].loads) == 2, kill):
        run_id = watched.audit(warehouse, hold, engine="processes", workers=2)
    assert_same_results(warehouse, run_id, alone)
    [engine] = watched.engines
    assert set(engine.loads.values()) == {1}, "each loads the model once"
    assert isinstance(engine, Processes)
    for pid in [*killed, *engine.pids]:
        assert not Path(f"/proc/{pid}").exists()


@RAY
def test_four_workers_on_two_ray_nodes_give_the_results_of_one_process(
    watched: Watched, alone: tuple[Path, str], ray_nodes: Any, tmp_path: Path
) -> None:
    run_id = watched.audit(tmp_path / "w", engine="ray", workers=4, ray_address=ray_nodes.address)
    assert_same_results(tmp_path / "w", run_id, alone)
    [engine] = watched.engines
    assert list(engine.loads.values()) == [1, 1, 1, 1], "each loads the model once"


@RAY
def test_a_ray_node_killed_in_a_run_loses_nothing(
    watched: Watched, alone: tuple[Path, str], ray_nodes: Any, tmp_path: Path
) -> None:
    warehouse, finished, hold = tmp_path / "w", [], AllAtOnce(12)
    [second] = [node for node in ray_nodes.list_all_nodes() if node != ray_nodes.head_node]

    def all_are_at_work() -> bool:
        return bool(watched.engines) and len(watched.engines[0].loads) == 4

    def kill() -> None:
        finished.append(len(shard_times(warehouse)))
        hold.released.set()
        ray_nodes.remove_node(second, allow_graceful=False)

    try:
        with once(all_are_at_work, kill):
            run_id = watched.audit(warehouse, hold, engine="ray", workers=4, ray_address=ray_nodes.address)
    finally:
        add_node(ray_nodes, cpus=2)  # for the tests that come after
    assert finished[0] < 20, "the node was killed too late"
    assert_same_results(warehouse, run_id, alone)
    [engine] = watched.engines
    assert set(engine.loads.values()) == {1}, "each loads the model once"
