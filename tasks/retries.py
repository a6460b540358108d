"""Which failures a task is tried again for: those that may pass, never wrong input."""

from __future__ import annotations

from typing import Any, TypedDict

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from calig.errors import GateError, InputError

LASTING = (InputError, GateError)


def may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether the failure is worth another try."""
    return not isinstance(state.result(raise_on_failure=False), LASTING)


class Retries(TypedDict):
    """Options of `@task` that say how it is tried again."""

    retries: int
    retry_delay_seconds: Any
    retry_jitter_factor: float
    retry_condition_fn: Any


RETRIES = Retries(
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=1),
    retry_jitter_factor=0.5,
    retry_condition_fn=may_pass,
)
