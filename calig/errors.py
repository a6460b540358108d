"""What can go wrong, by who can mend it."""


class InputError(Exception):
    """The user's input is wrong: one line that names the field, file, row or column and what to do.

    The command line prints it without a traceback and exits with 2; tasks never retry it. What the input has in it of
    line breaks and control characters, which names of files and columns may be made of, is shown as an escape.
    """

    def __init__(self, message: str) -> None:
        super().__init__(shown(message))


class DamagedError(InputError):
    """A record of one run, evaluation or tag is not what calig wrote; the others can be used without it."""


class BusyError(InputError):
    """Another writer is at work; it is named."""


class NewerError(DamagedError):
    """A record is of a format that a newer version wrote: this one can neither use it nor judge it, and leaves it."""


def shown(message: str) -> str:
    """Return a message with its line breaks, control characters and halves of surrogate pairs as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)


def first_line(error: BaseException) -> str:
    """Return the first line that an error of somebody else's says, or its kind where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class DocumentError(Exception):
    """One document cannot be explained; `reason` is a short code, the message says more.

    The pipeline records it in `failures` and goes on.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class ServerError(Exception):
    """The Prefect server that a command started for itself does not start, or died; one line says why.

    The command line exits with 3.
    """


class GateError(Exception):
    """The audit ran and a gate does not hold; the command line exits with 1, and nothing is retried.

    The message has one line per gate that does not hold; `run_id` names the run, which has its report.
    """

    def __init__(self, message: str, run_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id
