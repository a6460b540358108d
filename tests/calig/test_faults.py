"""Whose fault an exception is, and how the document at fault is found among others."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest
import torch
from PIL import Image, UnidentifiedImageError

from calig.errors import DocumentError, GateError, InputError
from calig.faults import DETAIL_CHARACTERS, apart, failure_of, is_documents
from calig.records import Failure


class PanicException(BaseException):
    """What a panic in Rust becomes."""


def caused(error: Exception, by: BaseException) -> Exception:
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    "error",
    [
        PanicException("index out of bounds"),
        ValueError("conversion from La to L not supported"),
        IndexError("index out of range in self"),
        RuntimeError("The size of tensor a (7) must match the size of tensor b (5)"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        RecursionError("maximum recursion depth exceeded"),
        ZeroDivisionError("division by zero"),
        OSError("image file is truncated"),
        UnidentifiedImageError("cannot identify image file"),
        Image.DecompressionBombError("too many pixels"),
        DocumentError("shape", "too wide"),
        caused(ValueError("broken"), KeyError("x")),
        TypeError("CUDA error is a word of this text"),
    ],
)
def test_what_may_be_a_document_s_fault(error: BaseException) -> None:
    assert is_documents(error)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        torch.AcceleratorError("device-side assert triggered"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA driver error: device is lost"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        RuntimeError("MPS backend out of memory"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied"),
        InputError("corpus.path: gone"),
        GateError("gates.min_accuracy: low"),
        KeyboardInterrupt(),
        SystemExit(1),
        caused(OSError("cannot write"), OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_what_is_no_document_s_fault(error: BaseException) -> None:
    assert not is_documents(error)


def test_those_at_fault_are_found_and_the_others_worked_on_together() -> None:
    asked: list[list[int]] = []

    def work(items: Sequence[int]) -> list[int]:
        asked.append(list(items))
        if 5 in items or 6 in items:
            raise ValueError("one of these")
        return [item * item for item in items]

    found = apart(range(16), work, lambda item, error: -item)
    assert found == [-n if n in (5, 6) else n * n for n in range(16)]
    assert list(range(8, 16)) in asked  # the half without a fault is worked on once, as a whole
    assert apart([], work, lambda item, error: 0) == []


def test_everybody_s_fault_is_raised() -> None:
    def work(items: Sequence[int]) -> list[int]:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        apart([1, 2], work, lambda item, error: 0)


def test_what_is_said_is_one_line_that_can_be_written() -> None:
    own = failure_of("k", ValueError("a\nb\ud800\x1b[1m"), "not-explained", "explaining it")
    assert own == Failure("k", "not-explained", "explaining it raised ValueError: a")
    odd = failure_of("k", ValueError("b\ud800\x1b[1m"), "not-explained", "explaining it")
    assert odd.detail == r"explaining it raised ValueError: b\ud800\x1b[1m"
    assert failure_of("k", ValueError(), "r", "tokenizing it").detail == "tokenizing it raised ValueError"
    assert len(failure_of("k", ValueError("x" * 9999), "r", "w").detail) < DETAIL_CHARACTERS + 20
    assert failure_of("k", DocumentError("shape", "too wide"), "r", "w") == Failure("k", "shape", "too wide")
