"""Whatever a stranger's model raises is told in one line that names the model and says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from calig.errors import InputError, first_line
from calig.faults import of_machine


@contextmanager
def in_one_line(what: str, advice: str) -> Iterator[None]:
    """Turn an exception of a block of code into an InputError: `what`, the exception's first line, and `advice`.

    An InputError passes as it is. So does a lack of memory, and what a device says that is lost: no model is at fault.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if of_machine(error):
            raise
        raise InputError(f"{what} ({named(error)}); {advice}") from error


def named(error: BaseException, longest: int = 300) -> str:
    """What an exception says, in one line with its kind, cut where it is long: some say no more than a name.

    A line that opens a bracket is the head of a module's own listing, and one that ends in a colon says no more than
    where: what is said comes after it.
    """
    kind, line = type(error).__name__, first_line(error)
    lines = [text.strip() for text in str(error).splitlines() if text.strip()]
    if line.endswith("("):
        line = lines[-1].lstrip(") ")
    elif line.endswith(":") and len(lines) > 1:
        line = f"{line} {lines[1]}"
    said = line if line == kind else f"{kind}: {line}"
    return said if len(said) <= longest else said[: longest - 1] + "…"
