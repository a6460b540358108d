"""An audit's shards on the workers of a Prefect work pool: ranges of shards as flow runs, so many at a time.

The audit is the parent. It has a deployment of `flows.ranges.attribute_range` on the pool, starts a run of it for each
range, watches them, and starts what a lost or failed one has left undone again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Cancelling

from calig import ranges
from calig.errors import InputError
from calig.stages import Run
from calig.warehouse.missing import Shards
from flows.lost_runs import HEARTBEAT_SECONDS, LOST_RUNS, TAG, put
from flows.ranges import WRONG_INPUT, attribute_range

POLL_SECONDS = 2.0


class RangeLostError(Exception):
    """A range of shards could not be finished, however often it was tried."""


@dataclass(frozen=True, slots=True)
class _Range:
    """Shards still to be done, how often they were tried before, and what came of that."""

    shards: tuple[int, ...]
    tries: int = 0
    problem: str = ""

    @property
    def label(self) -> str:
        """What it is called."""
        again = f", try {self.tries + 1}" if self.tries else ""
        return f"shards {self.shards[0] + 1} to {self.shards[-1] + 1}{again}"


def run_ranges(run: Run, shards: Shards, progress: Callable[[int], None]) -> None:
    """Have shards explained by the workers of the pool that `runtime.work_pool` names.

    Parameters
    ----------
    run
        The run, whose folder is there.
    shards
        Row numbers of the documents of each.
    progress
        Called with the number of documents just done.

    Raises
    ------
    InputError
        There is no such pool, or a worker cannot use what it is given.
    RangeLostError
        A range failed more often than `runtime.retries` allows; the others have been done.
    """
    ranges.write_shards(run, shards)
    parent = _audit_run()
    with get_client(sync_client=True) as client:
        deployment = _deploy(client, run)
        waiting = deque(_Range(tuple(r)) for r in ranges.guided(len(shards), run.config.runtime.workers or 1))
        failed: list[_Range] = []
        stalled = False
        with _under_way(client) as under_way:
            while waiting or under_way:
                while waiting and len(under_way) < (run.config.runtime.workers or 1):
                    one = waiting.popleft()
                    under_way[_start(deployment, parent, run, one)] = one
                time.sleep(POLL_SECONDS)
                flow_runs = _look_at(client, list(under_way))
                stalled = _stalled(flow_runs, run.config.runtime.work_pool, stalled)
                for flow_run in flow_runs:
                    if flow_run.state is None or not flow_run.state.is_final():
                        continue
                    done = under_way.pop(flow_run.id)
                    left = _left(run, done, flow_run, shards)
                    progress(
                        _documents(shards, done.shards) - _documents(shards, left.shards if left else ())
                    )
                    if left is not None:
                        (waiting if left.tries <= run.config.runtime.retries else failed).append(left)
    if failed:
        raise RangeLostError(f"{failed[0].label}: {failed[0].problem}")


def _audit_run() -> UUID:
    """Return the flow run of the audit, within which attribution is a flow run of its own."""
    return UUID(str(runtime.flow_run.parent_flow_run_id))


def _deploy(client: SyncPrefectClient, run: Run) -> UUID:
    """Make the deployment of ranges of this audit on its pool, or bring it up to date."""
    pool = run.config.runtime.work_pool
    assert pool is not None  # the configuration's own check
    try:
        kind = client.read_work_pool(pool).type
    except ObjectNotFound:
        raise InputError(
            f"runtime.work_pool: the Prefect server knows no pool {pool}; `prefect work-pool create {pool} --type "
            "process`, or another type, and start workers for it"
        ) from None
    put(client, LOST_RUNS.name, LOST_RUNS)
    variables = {"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)}}
    here = {"working_dir": str(Path.cwd())} if kind == "process" else {}
    return client.create_deployment(
        flow_id=client.create_flow(attribute_range),
        name=run.config.name or "audit",
        entrypoint=f"{attribute_range.fn.__module__}.{attribute_range.fn.__name__}",
        description=attribute_range.description,
        parameter_openapi_schema=attribute_range.parameters.model_dump_for_openapi(),
        enforce_parameter_schema=True,
        work_pool_name=pool,
        job_variables={**variables, **here},
        tags=[TAG],
    )


def _start(deployment: UUID, parent: UUID, run: Run, one: _Range) -> UUID:
    parameters = {
        "audit_run": str(parent),
        "run_id": run.run_id,
        "label": one.label,
        "shards": list(one.shards),
    }
    started = run_deployment(deployment, parameters=parameters, timeout=0, tags=[TAG])
    assert isinstance(started, FlowRun)  # outside of async code
    return started.id


@contextmanager
def _under_way(client: SyncPrefectClient) -> Iterator[dict[UUID, _Range]]:
    """Give a place for the ranges under way; those still there at the end, when the audit is stopped, are cancelled."""
    under_way: dict[UUID, _Range] = {}
    try:
        yield under_way
    finally:
        for flow_run in under_way:
            with suppress(Exception):  # what stops the audit is the thing to be told
                client.set_flow_run_state(flow_run, Cancelling(message="the audit was stopped"))


def _look_at(client: SyncPrefectClient, flow_runs: list[UUID]) -> list[FlowRun]:
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=flow_runs)))


def _stalled(flow_runs: Sequence[FlowRun], pool: str | None, before: bool) -> bool:
    """Return whether the server calls all of them late, and warn of it where they were not before."""
    late = all(one.state_name == "Late" for one in flow_runs)
    if late and not before:
        get_run_logger().warning(
            "work pool %s: no worker has taken any of the %d ranges that are due; start one (`prefect worker start "
            "--pool %s`), or see whether the pool is paused or at its limit of runs",
            *(pool, len(flow_runs), pool),
        )
    return late


def _left(run: Run, done: _Range, flow_run: FlowRun, shards: Shards) -> _Range | None:
    """Return what an ended range has left undone; None if nothing."""
    state = flow_run.state
    assert state is not None
    if state.is_completed():
        return None
    problem = f"{state.name}: {state.message or 'no reason given'}"
    if state.name == WRONG_INPUT:
        raise InputError(f"{flow_run.name}: {state.message}")
    left = ranges.unfinished(run, {number: shards[number] for number in done.shards})
    get_run_logger().warning("%s ended as %s; left undone: %d shards", done.label, problem, len(left))
    return replace(done, shards=tuple(left), tries=done.tries + 1, problem=problem) if left else None


def _documents(shards: Shards, numbers: Sequence[int]) -> int:
    return sum(len(shards[number]) for number in numbers)
