"""Workers as threads of this process: cheap to start, but they take turns at the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from calig import workers
from calig.engines.engine import Engine, Progress
from calig.engines.placement import Placement

T = TypeVar("T")


class Threads(Engine):
    """The threads that call `run` are the workers."""

    def __init__(self, placement: Placement) -> None:
        super().__init__(placement.workers)
        self._before = workers.loaded()

    def run(self, work: Callable[..., T], *arguments: Any, progress: Progress) -> T:
        """Do the work here and now."""
        self.stop_if_closed()
        try:
            return work(*arguments, progress)
        finally:
            self.loads["this process"] = workers.loaded() - self._before

    def close(self) -> None:
        """Begin no more work; what is under way comes to its end."""
        self.closed.set()
