"""Shards side by side: a few tasks ahead of the workers, so that what is held does not grow with the corpus."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from calig.warehouse.shards import ShardManifest

_AHEAD = 2


def run_shards(task: Task[..., ShardManifest], shards: Sequence[dict[str, Any]], workers: int) -> None:
    """Run a task once for each shard, with these parameters, on so many threads.

    A shard that keeps failing does not hold up the rest: the first failure is raised when all are done.
    """
    waiting: deque[PrefectFuture[ShardManifest]] = deque()
    failures: list[BaseException] = []

    def take() -> None:
        state = waiting.popleft()
        state.wait()
        outcome = state.state.result(raise_on_failure=False)
        if isinstance(outcome, BaseException):
            failures.append(outcome)

    pool: ThreadPoolTaskRunner[ShardManifest] = ThreadPoolTaskRunner(max_workers=workers)
    with pool as runner:
        for parameters in shards:
            waiting.append(runner.submit(task, parameters))
            while len(waiting) >= workers * _AHEAD:
                take()
        while waiting:
            take()
    if failures:
        raise failures[0]
