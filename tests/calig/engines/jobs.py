"""Pieces of work for workers of the tests."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from calig.attribution.explainer import Explainer
from calig.attribution.passes import Passes
from calig.config.schema import RuntimeConfig
from calig.engines import Progress
from calig.errors import InputError
from calig.models import text as text_module
from calig.models.classifier import Classifier
from calig.models.families import declared_families
from calig.models.inputs import Batch
from calig.models.text import TextEncoder
from calig.stages import Run, attribute_shard, schedule_of
from calig.workers import threads_of, workers_explainer


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


STEPS = {
    "panics": "not-tokenized",
    "odd": "not-tokenized",
    "dark": "not-explained",
    "scene": "not-explained",
    "clever": "not-explained",
}
"""Words at which `attribute_with_faults` raises, and the reason of the failure."""


class PanicException(BaseException):
    """What a panic of a tokenizer in Rust becomes."""


def attribute_with_faults(run: Run, doc_ids: Sequence[int], progress: Progress) -> None:
    """Attribute a shard with a model that raises at each step where a document holds one of `STEPS`."""
    explainer = workers_explainer(run.config, run.model, schedule_of(run))
    vocabulary: dict[str, int] = explainer.pretrained.tokenizer.get_vocab()  # type: ignore[union-attr]

    def at(word: str, error: BaseException, place: int) -> Callable[[Any], Any]:
        """Raise where the argument at this place, texts or a batch, holds the word."""

        def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any, **options: Any) -> Any:
                given = arguments[place]
                if isinstance(given, Batch):
                    held = bool((given.inputs["input_ids"] == vocabulary[word]).any())
                else:
                    held = word in str(getattr(given, "text", given)).split()
                if held:
                    raise error
                return function(*arguments, **options)

            return wrapped

        return wrap

    def texts(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(encoder: Any, *columns: Any) -> Any:
            if any("panics" in text.split() for column in columns for text in column):
                raise PanicException("called `Option::unwrap()` on a `None` value")
            return function(encoder, *columns)

        return wrapped

    with ExitStack() as stack:
        for owner, name, wrap in (
            (TextEncoder, "_tokenize", texts),
            (text_module, "_one", at("odd", ValueError("spans are not in order"), 0)),
            (Classifier, "answer", at("dark", IndexError("index out of range in self"), 1)),
            (Passes, "along", at("scene", RuntimeError("sizes of tensors do not match"), 2)),
            (Explainer, "_finish", at("clever", ZeroDivisionError("division by zero"), 1)),
        ):
            stack.enter_context(patch.object(owner, name, wrap(getattr(owner, name))))
        attribute_shard(run, doc_ids, progress)
