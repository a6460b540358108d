"""The flows inside an audit: what they are given stays in the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Flow

P = ParamSpec("P")
R = TypeVar("R")


class _Stage(Flow[P, R]):
    """A flow whose parameters are not sent to Prefect's server: they hold what environment variables held."""

    def serialize_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Send none."""
        return {}


def stage(
    *, name: str, flow_run_name: str, validate_parameters: bool = True
) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a function a flow, as `prefect.flow` does, whose parameters are not sent to Prefect's server."""

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        return _Stage(
            function, name=name, flow_run_name=flow_run_name, validate_parameters=validate_parameters
        )

    return decorate
