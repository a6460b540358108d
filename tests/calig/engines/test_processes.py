"""Workers as processes: what they are given, what they tell, and what becomes of one that dies."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from calig.engines.engine import WorkerLostError
from calig.engines.placement import Placement
from calig.engines.processes import Processes
from calig.errors import InputError
from calig.models.families import Family, declare_family
from tests.calig.engines.jobs import (
    Unreadable,
    dawdle,
    die_once,
    exit_now,
    facts,
    fail_oddly,
    refuse,
    square,
    warn,
)


def ignore(documents: int) -> None:
    """Take no note of progress."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Processes]:
    """Two workers of three threads."""
    declare_family(Family("declared-here"))
    processes = Processes(Placement(2, 3, ("4", "5")))
    yield processes
    processes.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_results_and_progress_come_back(engine: Processes) -> None:
    told: list[int] = []
    assert engine.run(square, 7, progress=told.append) == 49
    assert told == [7, 1]


def test_a_worker_is_a_process_with_its_threads_its_gpu_and_what_was_declared_here(engine: Processes) -> None:
    with ThreadPoolExecutor(2) as pool:
        barrier = threading.Barrier(2)

        def ask() -> dict[str, Any]:
            barrier.wait()
            return engine.run(facts, progress=ignore)

        found = [future.result() for future in [pool.submit(ask), pool.submit(ask)]]
    assert {one["gpu"] for one in found} <= {"4", "5"}
    assert all(one["threads"] == ("3", 3) for one in found)
    assert all("declared-here" in one["families"] for one in found)
    assert os.getpid() not in {one["pid"] for one in found}


def test_the_same_process_and_thread_do_the_next_piece_of_work(engine: Processes) -> None:
    first, second = (engine.run(facts, progress=ignore) for _ in range(2))
    assert (first["pid"], first["thread"]) == (second["pid"], second["thread"])


def test_an_exception_comes_back_as_it_is_with_its_traceback(engine: Processes) -> None:
    with pytest.raises(InputError) as caught:
        engine.run(refuse, progress=ignore)
    assert str(caught.value) == "corpus.path: wrong"
    assert "in refuse" in "".join(caught.value.__notes__)


def test_an_exception_that_cannot_be_pickled_comes_back_as_what_it_says(engine: Processes) -> None:
    with pytest.raises(RuntimeError, match="OddError: 1 and 2"):
        engine.run(fail_oddly, progress=ignore)


def test_an_argument_that_a_worker_cannot_read_fails_the_call_alone(engine: Processes) -> None:
    with pytest.raises(InputError, match=r"^corpus\.path: wrong"):
        engine.run(square, Unreadable(), progress=ignore)
    assert engine.run(square, 3, progress=ignore) == 9


def test_what_a_worker_logs_is_logged_here(engine: Processes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        engine.run(warn, progress=ignore)
    assert [record.getMessage() for record in caplog.records] == ["beware of dogs"]


def test_a_worker_that_is_killed_is_named_and_the_next_call_has_another(
    engine: Processes, tmp_path: Path
) -> None:
    before = set(engine.pids)
    with pytest.raises(
        WorkerLostError, match=r"^worker \d \(pid \d+\) was killed by SIGKILL, perhaps for want"
    ):
        engine.run(die_once, tmp_path / "mark", progress=ignore)
    assert engine.run(die_once, tmp_path / "mark", progress=ignore) not in before
    with pytest.raises(WorkerLostError, match="ended with exit code 7"):
        engine.run(exit_now, progress=ignore)
    assert engine.run(square, 3, progress=ignore) == 9


def test_closing_ends_all_workers_and_interrupts_those_who_wait(tmp_path: Path) -> None:
    engine = Processes(Placement(1, 1))
    pool = ThreadPoolExecutor(2)
    waiting = [pool.submit(engine.run, dawdle, 600, tmp_path / "mark", progress=ignore) for _ in range(2)]
    wait_for((tmp_path / "mark").exists)
    [pid] = engine.pids
    engine.close()
    for future in waiting:
        assert isinstance(future.exception(timeout=60), KeyboardInterrupt)
    assert not alive(pid)
    with pytest.raises(KeyboardInterrupt):
        engine.run(square, 1, progress=ignore)


def test_workers_end_with_the_process_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from calig.engines.placement import Placement; "
        "from calig.engines.processes import Processes; from tests.calig.engines.jobs import dawdle; "
        "Processes(Placement(1, 1)).run(dawdle, 600, Path(sys.argv[1]), progress=print)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "mark")])
    wait_for(lambda: (tmp_path / "mark").exists() and (tmp_path / "mark").read_text())
    pid = int((tmp_path / "mark").read_text())
    assert alive(pid)
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(pid))
