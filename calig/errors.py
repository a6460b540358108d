"""What can go wrong, by who can mend it."""


class InputError(Exception):
    """The user's input is wrong: one line that names the field, file, row or column and what to do.

    The command line prints it without a traceback and exits with 2; tasks never retry it.
    """


class DocumentError(Exception):
    """One document cannot be explained; `reason` is a short code, the message says more.

    The pipeline records it in `failures` and goes on.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class GateError(Exception):
    """The audit ran and one of its gates does not hold; the command line exits with 1, and nothing is retried."""
