"""The torch settings that calig's passes run under, whatever the program around them has set.

Gradients are on, autocast is off, new tensors are float32 on the CPU unless they say otherwise, and float32 is computed
as float32. So what is stored does not depend on the caller, and the caller's settings are as before when a call ends.

Gradient mode, autocast and the default device belong to a thread. The default dtype and the precision of float32 belong
to the process: the first thread that comes in changes them, and the last that leaves puts them back. Other threads of
the program see calig's meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import backends

_EXACT = ("ieee", "none")
"""Ways to compute float32 that round nothing; `none` is the default of an operation that no one has set."""
_AUTOCAST = ("cpu", "cuda")


class _Thread(threading.local):
    inside = False


class _Process:
    """What is put back when the last thread leaves."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.threads = 0
        self.restore = ExitStack()


_thread = _Thread()
_process = _Process()


@contextmanager
def own_settings() -> Iterator[None]:
    """Run a block of code, or a function that this decorates, under calig's settings; not for generators.

    Within itself it changes nothing, so that `torch.no_grad()` of calig's own holds.
    """
    if _thread.inside:
        yield
        return
    with ExitStack() as stack:
        _thread.inside = True
        stack.callback(setattr, _thread, "inside", False)
        stack.enter_context(_of_process())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in _AUTOCAST:
            if torch.is_autocast_enabled(device):
                torch.set_autocast_enabled(device, False)
                stack.callback(torch.set_autocast_enabled, device, True)
        if not _made_on_cpu():
            stack.enter_context(torch.device("cpu"))
        yield


@contextmanager
def _of_process() -> Iterator[None]:
    """Settings of the process, from the first thread that needs them to the last."""
    with _process.lock:
        if not _process.threads:
            with ExitStack() as undo:
                _set(undo)
                _process.restore = undo.pop_all()
        _process.threads += 1
    try:
        yield
    finally:
        with _process.lock:
            _process.threads -= 1
            if not _process.threads:
                _process.restore.close()


def _made_on_cpu() -> bool:
    """Whether new tensors are on the CPU; another default device may not even be here."""
    try:
        return torch.empty(0).device.type == "cpu"
    except (RuntimeError, AssertionError):
        return False


def _set(undo: ExitStack) -> None:
    """Set what is not as calig needs it, and only that; `undo` puts it back."""
    if (dtype := torch.get_default_dtype()) is not torch.float32:
        torch.set_default_dtype(torch.float32)
        undo.callback(torch.set_default_dtype, dtype)
    places = _places()
    before = [place.fp32_precision for place in places]
    legacy = _matmul_precision()
    if legacy not in (None, "highest"):
        undo.callback(_put_back, list(zip(places, before, strict=True)))
        torch.set_float32_matmul_precision("highest")
        undo.callback(torch.set_float32_matmul_precision, legacy)
    for place in places:
        if (found := place.fp32_precision) not in _EXACT:
            place.fp32_precision = "ieee"
            undo.callback(_assign(place), found)


def _places() -> list[Any]:
    """Where torch keeps how it computes float32: for all operations, and for some; the general first."""
    known: Any = backends
    places = [known, known.mkldnn.matmul, known.mkldnn.conv, known.cuda.matmul]
    if torch.cuda.is_available():  # its convolutions round by default
        places += [known.cudnn.conv]
    return places


def _matmul_precision() -> str | None:
    """The older setting; None where newer ones contradict it, of which torch says an error."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def _assign(place: Any) -> Callable[[str], None]:
    return lambda precision: setattr(place, "fp32_precision", precision)


def _put_back(pairs: list[tuple[Any, str]]) -> None:
    """Assign what has not come back by itself."""
    for place, precision in pairs:
        if place.fp32_precision != precision:
            place.fp32_precision = precision
