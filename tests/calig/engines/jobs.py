"""Pieces of work for workers of the tests."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from calig.config.schema import RuntimeConfig
from calig.engines import Progress
from calig.errors import InputError
from calig.models.families import declared_families
from calig.workers import threads_of


def square(number: int, progress: Progress) -> int:
    progress(number)
    progress(1)
    return number * number


def meet(folder: Path, workers: int, progress: Progress) -> dict[str, Any]:
    """What a worker has to say of itself, once so many workers are at this in `folder`."""
    (folder / f"{os.getpid()}").touch()
    deadline = time.monotonic() + 120
    while len(list(folder.iterdir())) < workers:
        assert time.monotonic() < deadline, "the other workers did not come"
        time.sleep(0.02)
    return facts(progress)


def facts(progress: Progress) -> dict[str, Any]:
    """What a worker has to say of itself."""
    ray = sys.modules.get("ray")
    return {
        "node": ray.get_runtime_context().get_node_id() if ray else None,
        "pid": os.getpid(),
        "thread": threading.get_ident(),
        "threads": (os.environ["OMP_NUM_THREADS"], threads_of(RuntimeConfig())),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "families": {family.model_type for family in declared_families()},
    }


def refuse(progress: Progress) -> None:
    progress(1)
    raise InputError("corpus.path: wrong")


class OddError(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fail_oddly(progress: Progress) -> None:
    raise OddError(1, 2)


def warn(progress: Progress) -> None:
    logging.getLogger("calig.jobs").warning("beware of %s", "dogs")
    logging.getLogger("calig.jobs").debug("not this")


def die_once(mark: Path, progress: Progress) -> int:
    """Be killed in the midst of it, if `mark` is not there yet."""
    progress(1)
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def exit_now(progress: Progress) -> None:
    os._exit(7)


def dawdle(seconds: float, mark: Path, progress: Progress) -> None:
    """Say that it has begun, and take its time."""
    mark.write_text(str(os.getpid()))
    time.sleep(seconds)


class Unreadable:
    """An argument that a worker cannot read."""

    def __reduce__(self) -> Any:
        return refuse, (print,)
