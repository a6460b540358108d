"""Workers as actors of a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from calig.config import AuditConfig, parse_config
from calig.config.schema import RuntimeConfig
from calig.engines import Engine, WorkerLostError, open_engine
from calig.engines.cluster import _reach, _Share
from calig.errors import InputError
from calig.warehouse.layout import Warehouse
from tests.calig.engines.jobs import dawdle, die_once, fail_oddly, meet, refuse, square, warn
from tests.material import session
from tests.material.ray_cluster import nodes


def ignore(documents: int) -> None:
    """Take no note of progress."""


def config(folder: Path, **runtime: Any) -> AuditConfig:
    """An audit whose workers are on Ray."""
    return parse_config(
        {
            "model": {"id": "none"},
            "corpus": {"path": "none.csv"},
            "warehouse": str(folder),
            "runtime": {"engine": "ray", "device": "cpu", **runtime},
        }
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of two CPUs each."""
    pytest.importorskip("ray")
    with nodes(2, cpus=2) as two:
        yield two


@pytest.fixture(scope="module")
def engine(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Three workers, which leave one CPU free."""
    asked = config(tmp_path_factory.mktemp("w"), workers=3, threads=1, ray_address=cluster.address)
    with open_engine(asked) as opened:
        yield opened


def at_once(engine: Engine, count: int) -> list[dict[str, Any]]:
    """What so many workers say of themselves when they are at work at the same time."""
    folder = Path(tempfile.mkdtemp(dir=session.folder()))
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: engine.run(meet, folder, count, progress=ignore), range(count)))


def test_results_and_progress_come_back(engine: Engine) -> None:
    told: list[int] = []
    assert engine.run(square, 7, progress=told.append) == 49
    assert sum(told) == 8


def test_workers_are_processes_on_both_nodes(engine: Engine) -> None:
    first, second = at_once(engine, 3), at_once(engine, 3)
    assert len({one["pid"] for one in first}) == 3
    assert len({one["node"] for one in first}) == 2
    assert {(one["pid"], one["thread"]) for one in first} == {(one["pid"], one["thread"]) for one in second}
    assert {one["threads"] for one in first} == {("1", 1)}


def test_an_exception_comes_back_as_it_is(engine: Engine) -> None:
    with pytest.raises(InputError) as caught:
        engine.run(refuse, progress=ignore)
    assert str(caught.value) == "corpus.path: wrong"
    with pytest.raises(RuntimeError, match="OddError: 1 and 2"):
        engine.run(fail_oddly, progress=ignore)


def test_what_a_worker_logs_is_logged_here(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        engine.run(warn, progress=ignore)
    assert [record.getMessage() for record in caplog.records] == ["beware of dogs"]


def test_a_worker_that_is_killed_is_named_and_replaced(engine: Engine, tmp_path: Path) -> None:
    before = {one["pid"] for one in at_once(engine, 3)}
    with pytest.raises(WorkerLostError, match=r"^worker \d was lost; its shard is to be done again"):
        engine.run(die_once, tmp_path / "mark", progress=ignore)
    after = {one["pid"] for one in at_once(engine, 3)}
    assert len(before & after) == 2


def test_closing_interrupts_those_who_wait(engine: Engine, tmp_path: Path) -> None:
    other = Path(tmp_path / "w")
    pool = ThreadPoolExecutor(2)
    with open_engine(
        config(other, workers=1, threads=1)
    ) as opened:  # in the cluster that is connected already
        waiting = [pool.submit(opened.run, dawdle, 600, tmp_path / "mark", progress=ignore) for _ in range(2)]
        deadline = time.monotonic() + 60
        while not (tmp_path / "mark").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        opened.close()
        for future in waiting:
            assert isinstance(future.exception(timeout=60), KeyboardInterrupt)
    assert engine.run(square, 2, progress=ignore) == 4


def test_a_worker_that_does_not_see_the_warehouse_refuses(engine: Engine, tmp_path: Path) -> None:
    asked = config(tmp_path, threads=1)
    with Warehouse.open(tmp_path).at_work(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("calig.engines.cluster._landmark", lambda config: tmp_path / "elsewhere" / ".working")
        with (
            open_engine(asked) as opened,
            pytest.raises(InputError, match=r"^warehouse: .* does not see .*/elsewhere;"),
        ):
            opened.run(square, 2, progress=ignore)


@pytest.mark.parametrize(
    ("runtime", "nodes", "expected"),
    [
        ({}, [{"CPU": 8.0}], _Share(1, 8, 8, 0.0)),
        ({"workers": 4}, [{"CPU": 2.0}, {"CPU": 2.0}], _Share(4, 1, 1, 0.0)),
        ({"workers": 2}, [{"CPU": 2.0}, {"CPU": 6.0}], _Share(2, 3, 3, 0.0)),
        ({"workers": 8}, [{"CPU": 2.0}, {"CPU": 2.0}], _Share(8, 1, 0, 0.0)),
        ({"workers": 2, "threads": 9}, [{"CPU": 4.0}], _Share(2, 9, 2, 0.0)),
        ({}, [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0, "GPU": 2.0}], _Share(4, 8, 8, 1.0)),
        ({"workers": 5}, [{"CPU": 16.0, "GPU": 4.0}], _Share(5, 3, 3, 0.5)),
        ({"device": "cpu", "workers": 2}, [{"CPU": 16.0, "GPU": 4.0}], _Share(2, 8, 8, 0.0)),
        ({"device": "cuda", "workers": 2}, [{"CPU": 4.0}], _Share(2, 2, 2, 1.0)),
    ],
)
def test_what_falls_to_each_worker(
    runtime: dict[str, Any], nodes: list[dict[str, float]], expected: _Share
) -> None:
    assert _Share.of(RuntimeConfig(**runtime), nodes) == expected


def test_without_ray_one_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(
            InputError, match=r"^runtime\.engine: ray is not installed; pip install 'calig\[ray\]'$"
        ),
        open_engine(config(tmp_path)),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", r"^runtime\.ray_address: no Ray cluster at 127\.0\.0\.1:1 \("),
        ("ray://head:10001", r"^runtime\.ray_address: ray://head:10001 is not host:port;"),
        ("head", r"^runtime\.ray_address: head is not host:port;"),
    ],
)
def test_an_address_at_which_there_is_no_cluster(address: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _reach(address)
