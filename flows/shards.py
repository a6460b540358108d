"""Shards side by side, pulled as workers come free: a slow one holds up no other, and few are held at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from prefect import Task
from prefect.logging import get_run_logger

from calig.config import AuditConfig
from calig.engines import Engine, open_engine
from calig.stages import Run
from tasks import attribute as tasks

Item = TypeVar("Item")
R = TypeVar("R")

_AHEAD = 2
"""Shards submitted at a time, per worker."""


def run_shards(task: Task[..., None], shards: Iterable[dict[str, Any]], config: AuditConfig) -> None:
    """Run a task once for each shard, with these parameters and an `engine`, on the workers of the configuration.

    A shard that keeps failing does not hold up the rest: the first failure is raised when all are done.
    """
    failures: list[BaseException] = []
    with open_engine(config) as engine:
        call: Callable[..., Any] = partial(task, engine=engine, return_state=True)
        for state in side_by_side(call, shards, engine):
            outcome = state.result(raise_on_failure=False)
            if isinstance(outcome, BaseException) and not failures:
                failures.append(outcome)
        loads = sum(engine.loads.values())
        get_run_logger().info("workers: %d, models loaded: %d", engine.workers, loads)
    if failures:
        raise failures[0]


def attribute_shards(run: Run, shards: Iterable[tuple[int, Sequence[int]]], total: int) -> None:
    """Have shards of a run attributed: documents (row numbers) by the shard's number, from 1, of `total`."""
    task = tasks.attribute_shard.with_options(retries=run.config.runtime.retries)
    parameters = (
        {"run": run, "doc_ids": doc_ids, "number": number, "total": total} for number, doc_ids in shards
    )
    run_shards(task, parameters, run.config)


def side_by_side(call: Callable[..., R], shards: Iterable[dict[str, Any]], engine: Engine) -> Iterator[R]:
    """Call with each shard's parameters, in a thread per worker of the engine; give the results as they come.

    Threads know the context, be it a flow's, of the one that asks.
    """
    pool = ThreadPoolExecutor(engine.workers, thread_name_prefix="shard")

    def submit(parameters: dict[str, Any]) -> Future[R]:
        return pool.submit(copy_context().run, partial(call, **parameters))

    try:
        yield from pull(submit, shards, engine.workers * _AHEAD)
    except BaseException:
        engine.close()  # else the shards under way would be waited for
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def pull(submit: Callable[[Item], Future[R]], items: Iterable[Item], ahead: int) -> Iterator[R]:
    """Submit items one by one, at most so many at a time; give their results as they come, whatever the order.

    An item is taken only when its turn has come.
    """
    done: SimpleQueue[Future[R]] = SimpleQueue()
    under_way = 0
    for item in items:
        submit(item).add_done_callback(done.put)
        under_way += 1
        if under_way == ahead:
            yield done.get().result()
            under_way -= 1
    for _ in range(under_way):
        yield done.get().result()
