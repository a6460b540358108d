from __future__ import annotations

import os

import pytest

from calig import workers
from calig.config.schema import RuntimeConfig


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="the system has no affinity of processes to cores"
)
def test_the_cores_are_those_that_this_process_may_use() -> None:
    """As under taskset or in a container with a set of CPUs; other processes may use more."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert workers.cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert workers.cores() == len(before)


@pytest.mark.parametrize(("count", "threads"), [(1, 8), (3, 2), (16, 1)])
def test_the_cores_are_shared_out_evenly(count: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 8)
    assert workers.threads_of(RuntimeConfig(workers=count)) == threads
    assert workers.threads_of(RuntimeConfig(workers=count, threads=5)) == 5
