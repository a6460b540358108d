"""What all engines have in common."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

Progress = Callable[[int], None]
"""What a piece of work tells how many more documents are done."""


class WorkerLostError(RuntimeError):
    """A worker died or cannot be reached any more; what it was at is worth another try."""


class Engine(ABC):
    """Workers side by side, each of which loads a model once and keeps it.

    Attributes
    ----------
    workers
        How many there are; so many threads may be in `run` at the same time without waiting for each other.
    loads
        Models loaded so far, by the name of the worker, lost ones included.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.loads: dict[str, int] = {}
        self.closed = threading.Event()

    @abstractmethod
    def run(self, work: Callable[..., T], *arguments: Any, progress: Progress) -> T:
        """Return `work(*arguments, report)` as done by a free worker, which `report` tells of documents done.

        Parameters
        ----------
        work
            A function of a module, so that another process finds it.
        arguments
            Picklable; the `warehouse` that one has is opened by the worker, once.
        progress
            Is told in this process, in this thread, what the worker reports.

        Raises
        ------
        WorkerLostError
            The worker died; the next call goes to another one.
        Exception
            What the work raised, with the worker's traceback as a note.
        """

    @abstractmethod
    def close(self) -> None:
        """End all workers, at once; a call of `run` that waits for one is interrupted."""

    def stop_if_closed(self) -> None:
        """Interrupt the calling thread where the engine is closed: its work is wanted no longer."""
        if self.closed.is_set():
            raise KeyboardInterrupt
