"""What to do about an error that calig did not foresee: whether the same command may succeed when it is run again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

RESUMED = frozenset(("audit", "demo", "evaluate", "plan", "compare", "prune"))
"""Commands that go on from what they have finished when they are run again."""

_LASTING = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
_LASTING_CODES = (errno.EROFS, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_WORKERS = frozenset(("WorkerLostError", "RangeLostError", "RayError"))
_OF_NETWORKS = frozenset(("TransportError", "HTTPError", "ClientError", "BotoCoreError", "RequestException"))
_PASSING = _OF_WORKERS | _OF_NETWORKS
"""Names of classes of errors that may pass; by name, since most of their packages are not imported here."""

_PASSING_WORDS = ("CUDA error", "database is locked")
"""What errors of a device, and of a file that another process holds, say; their classes are those of many others."""


def advice(error: BaseException, log: Path, command: str | None) -> str:
    """Say where the details are, and what to do: run the same command again only where that may help.

    Parameters
    ----------
    error
        What ended the command.
    log
        The file with the traceback.
    command
        The command's name, such as audit.
    """
    details = f"details in {log}"
    again = "the same command run again"
    goes_on = f"{again} goes on from what is finished" if command in RESUMED else f"{again} may succeed"
    causes = list(_causes(error))
    if any(_is_full(one) for one in causes):
        return f"{details}; the disk is full: make room, then {goes_on}"
    if any(_is_memory(one) for one in causes):
        lower = " or set runtime.token_budget or runtime.workers lower," if command in RESUMED else ""
        return f"{details}; memory is short: end other programs,{lower} then {goes_on}"
    if any(_may_pass(one) for one in causes):
        return f"{details}; this may pass: {goes_on}"
    return f"{details}; a fault of calig or of a package it uses, which a rerun does not mend: report it with that file"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Give the error, and those that it was raised from or while they were handled."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def _is_full(error: BaseException) -> bool:
    """Whether a disk is full; Arrow and DuckDB say so in words alone."""
    numbered = isinstance(error, OSError) and error.errno in _FULL
    return numbered or any(os.strerror(code) in str(error) for code in _FULL)


def _is_memory(error: BaseException) -> bool:
    named = any(kind.__name__ in ("OutOfMemoryError", "OutOfMemoryException") for kind in type(error).__mro__)
    return isinstance(error, MemoryError) or named or "can't allocate memory" in str(error)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return not isinstance(error, _LASTING) and error.errno not in _LASTING_CODES
    named = any(kind.__name__ in _PASSING for kind in type(error).__mro__)
    return named or any(words in str(error) for words in _PASSING_WORDS)
