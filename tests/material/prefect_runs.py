"""Task runs as Prefect's server knows them, found by a tag."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prefect import tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags, TaskRunFilter, TaskRunFilterTags
from prefect.client.schemas.objects import TaskRun


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one task run: its name, how often it ran, and the names of its states in order."""

    name: str
    run_count: int
    states: tuple[str, ...]


@contextmanager
def tagged() -> Iterator[str]:
    """Tag all flow and task runs of the block, and give the tag."""
    tag = f"test-{uuid.uuid4().hex}"
    with tags(tag):
        yield tag


def seen(tag: str, **counts: int) -> dict[str, list[Seen]]:
    """Ask the server for the tag's finished task runs by the task's name, once each has so many.

    Task runs reach the server as events, a little later than they happen.
    """
    deadline = time.monotonic() + 30
    while True:
        runs = _finished(tag)
        there = Counter(_name(run) for run in runs)
        if all(there[name] >= count for name, count in counts.items()):
            break
        assert time.monotonic() < deadline, f"{there} are finished at the server, not {counts}"
        time.sleep(0.1)
    found: dict[str, list[Seen]] = {}
    with get_client(sync_client=True) as client:
        for run in sorted(runs, key=lambda run: str(run.start_time)):
            states = client.read_task_run_states(run.id)
            names = tuple(state.name for state in sorted(states, key=lambda s: s.timestamp) if state.name)
            found.setdefault(_name(run), []).append(Seen(run.name, run.run_count, names))
    return found


def flow_runs(tag: str) -> list[str]:
    """Names of the tag's flow runs."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])))
    return [run.name for run in runs]


def _name(run: TaskRun) -> str:
    return run.task_key.rsplit("-", 1)[0]


def _finished(tag: str) -> list[TaskRun]:
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(task_run_filter=TaskRunFilter(tags=TaskRunFilterTags(all_=[tag])))
    return [run for run in runs if run.state is not None and run.state.is_final()]
