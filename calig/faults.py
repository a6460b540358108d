"""Whose fault an exception is: one document's, which is then recorded and left behind, or everybody's.

Decoders, tokenizers, image processors and models raise whatever an odd document leads them to, so that no list of
exceptions holds them all. What is known is what is no document's fault: lack of memory, a full disk and other failures
of the system, a lost device, and input that the user has to mend.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from calig.errors import DocumentError, GateError, InputError, first_line, shown
from calig.records import Failure

T = TypeVar("T")
R = TypeVar("R")

DETAIL_CHARACTERS = 300
"""Most characters of an exception's own message that a failure keeps."""

_MEMORY_OR_DEVICE = re.compile(
    r"out of memory|can't allocate memory|not enough memory|(CUDA|HIP|cuDNN|MPS|XPU)( \w+)? error|device-side assert"
    r"|(CUBLAS|CUDNN|CUSOLVER|CUSPARSE|MIOPEN|HIPBLAS)_STATUS|NCCL",
    re.IGNORECASE,
)
_KINDS = {"OutOfMemoryError", "AcceleratorError"}
"""Classes of torch, known by name: this module does not import it."""


def of_machine(error: BaseException) -> bool:
    """Whether an exception says that memory or a device is at its end, which no input is to blame for."""
    if isinstance(error, MemoryError) or _KINDS & {kind.__name__ for kind in type(error).__mro__}:
        return True
    return isinstance(error, RuntimeError) and _MEMORY_OR_DEVICE.search(str(error)) is not None


def is_documents(error: BaseException) -> bool:
    """Whether an exception that was raised while documents were worked on may be one document's fault.

    A panic of a tokenizer in Rust, which is no `Exception`, may be. An OSError with a number comes from the system;
    those that decoders raise about damaged bytes have none.
    """
    if isinstance(error, DocumentError):
        return True
    panic = type(error).__name__ == "PanicException"
    if isinstance(error, (InputError, GateError)) or not (isinstance(error, Exception) or panic):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return False
    if of_machine(error):
        return False
    return error.__cause__ is None or is_documents(error.__cause__)


def failure_of(key: str, error: BaseException, reason: str, what: str) -> Failure:
    """The failure of a document that something raised about.

    Parameters
    ----------
    key
        The document's key.
    error
        What was raised; a `DocumentError` says its reason itself.
    reason, what
        The code of the reason, and what was done when it was raised.
    """
    if isinstance(error, DocumentError):
        return Failure(key, error.reason, shown(error.detail))
    said = first_line(error)
    kind = type(error).__name__
    said = kind if said == kind else f"{kind}: {said}"
    cut = said if len(said) <= DETAIL_CHARACTERS else f"{said[:DETAIL_CHARACTERS]}…"
    return Failure(key, reason, shown(f"{what} raised {cut}"))


def apart(
    items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]], failed: Callable[[T, BaseException], R]
) -> list[R]:
    """Work on items together; where that raises what may be one item's fault, on halves, down to those at fault.

    Parameters
    ----------
    items
        In order.
    work
        Gives a result for each of some items.
    failed
        Gives the result of an item at fault.

    Raises
    ------
    BaseException
        What `work` raised, where it is no document's fault.
    """
    if not items:
        return []
    try:
        return list(work(items))
    except BaseException as error:
        if not is_documents(error):
            raise
        if len(items) == 1:
            return [failed(items[0], error)]
    half = len(items) // 2  # outside the handler: its traceback would hold the batch's tensors
    return [*apart(items[:half], work, failed), *apart(items[half:], work, failed)]
