"""The worker's side of an engine: does a piece of work, and says how it goes, what it logs and what comes out."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from logging.handlers import QueueHandler
from typing import Any

from calig import workers
from calig.engines.engine import Progress
from calig.models.families import Family, declare_family, declared_families
from calig.warehouse.layout import Sent, Warehouse


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a piece of work: its result or its exception, and how many models the worker has loaded so far."""

    loads: int
    result: Any = None
    error: BaseException | None = None

    def get(self) -> Any:
        """Return the result, or raise the exception."""
        if self.error is not None:
            raise self.error
        return self.result


Message = int | logging.LogRecord | Outcome
"""Documents done since the last one, something logged, or the end."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker takes over from the process that it works for."""

    threads: int
    log_level: int
    families: tuple[Family, ...]

    @classmethod
    def here(cls, threads: int) -> Settings:
        """Those of this process, and the CPU threads that fall to the worker."""
        return cls(threads, logging.getLogger("calig").getEffectiveLevel(), declared_families())

    def apply(self, tell: Callable[[Message], None]) -> None:
        """Take them over, in the worker; what it logs is told from here on."""
        workers.set_threads(self.threads)
        for family in self.families:
            declare_family(family)
        root = logging.getLogger()
        mouth: Any = _Mouth(tell)
        root.handlers[:] = [QueueHandler(mouth)]
        root.setLevel(logging.WARNING)
        logging.getLogger("calig").setLevel(self.log_level)


class _Mouth:
    """What a QueueHandler, which makes records fit to travel, takes for a queue."""

    def __init__(self, tell: Callable[[Message], None]) -> None:
        self.put_nowait = tell


class Worker:
    """Does pieces of work in this process, each warehouse opened once, and tells how it goes."""

    def __init__(self, tell: Callable[[Message], None]) -> None:
        self._tell = tell
        self._warehouses: dict[str, Warehouse] = {}

    def perform(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Do a piece of work; the last thing told is its outcome."""
        try:
            outcome = Outcome(0, work(*map(self._at_hand, arguments), self._tell))
        except BaseException as error:
            outcome = failure(error)
        self._tell(replace(outcome, loads=workers.loaded()))

    def _at_hand(self, argument: Any) -> Any:
        """The argument with the warehouse that is open here in place of the one that was sent, as of a run."""
        sent = getattr(argument, "warehouse", None)
        if not isinstance(sent, Sent):
            return argument
        if sent.place not in self._warehouses:
            self._warehouses[sent.place] = Warehouse.open(sent.place)
        return replace(argument, warehouse=self._warehouses[sent.place])


def failure(error: BaseException) -> Outcome:
    """The outcome that is an exception, its traceback as a note; one that cannot be pickled becomes a RuntimeError."""
    error.add_note("in the worker:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        stand_in = RuntimeError(f"{type(error).__name__}: {error}")
        stand_in.__notes__ = error.__notes__
        error = stand_in
    return Outcome(workers.loaded(), error=error)


def receive(message: Message, progress: Progress) -> Outcome | None:
    """Take a message in, in the process that the worker works for: pass it on, or return the outcome."""
    if isinstance(message, Outcome):
        return message
    if isinstance(message, logging.LogRecord):
        logger = logging.getLogger(message.name)
        if logger.isEnabledFor(message.levelno):
            logger.handle(message)
    else:
        progress(message)
    return None
