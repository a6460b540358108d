"""What to do about a damaged record of one run, evaluation or tag: it is named, and the others are used without it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from calig.errors import DamagedError

T = TypeVar("T")

logger = logging.getLogger(__name__)
_named: set[str] = set()


def read_each(names: Iterable[str], read: Callable[[str], T]) -> tuple[dict[str, T], dict[str, DamagedError]]:
    """Read records by their names: what they hold, and what is wrong with the damaged ones."""
    found: dict[str, T] = {}
    damaged: dict[str, DamagedError] = {}
    for name in names:
        try:
            found[name] = read(name)
        except DamagedError as error:
            damaged[name] = error
    return found, damaged


def pass_over(errors: Iterable[DamagedError]) -> None:
    """Name what is damaged in the log, once in a process."""
    for error in errors:
        if str(error) not in _named:
            _named.add(str(error))
            logger.warning("passed over: %s", error)
