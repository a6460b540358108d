"""What a program has set in torch changes no stored number, and is as it was when a call ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import backends

from calig.attribution.explainer import Explainer
from calig.evaluation.methods import score
from calig.evaluation.subject import Case, Subject
from calig.models.settings import own_settings
from calig.records import Attribution
from tests.material import zoo

EVERY: Any = backends


@contextmanager
def changed(set_to: Callable[[Any], Any], value: Any, before: Any) -> Iterator[None]:
    set_to(value)
    try:
        yield
    finally:
        set_to(before)


def precision(value: str) -> None:
    EVERY.mkldnn.matmul.fp32_precision = value


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "set_grad_enabled": lambda: changed(torch.set_grad_enabled, False, True),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "dtype float64": lambda: changed(torch.set_default_dtype, torch.float64, torch.float32),
    "dtype bfloat16": lambda: changed(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "device meta": lambda: changed(torch.set_default_device, "meta", None),
    "device that is not here": lambda: changed(torch.set_default_device, "xpu", None),
    "matmul medium": lambda: changed(torch.set_float32_matmul_precision, "medium", "highest"),
    "mkldnn bf16": lambda: changed(precision, "bf16", "ieee"),
    "deterministic": lambda: changed(torch.use_deterministic_algorithms, True, False),
}


def matmul_precision() -> str:
    """The older setting, of which torch says an error while a newer one contradicts it."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "contradicted"


def state() -> list[Any]:
    """All that may be set, as a program sees it."""
    threads = [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")]
    places = [EVERY, EVERY.cuda.matmul, EVERY.cudnn.conv, EVERY.mkldnn.matmul, EVERY.mkldnn.conv]
    precisions = [matmul_precision(), *(place.fp32_precision for place in places)]
    return [*threads, torch.get_default_dtype(), *precisions, torch.are_deterministic_algorithms_enabled()]


def everything(name: str) -> tuple[list[Attribution], Any]:
    """Load a model, explain, learn a schedule, and explain by other methods."""
    explainer = Explainer.from_pretrained(zoo.folder(name), steps=4, rule="midpoint")
    found = explainer.explain(list(zoo.TEXTS[:2]))
    explainer.pilot(zoo.documents(zoo.TEXTS[:1]))
    subject = Subject(explainer, samples=8)
    cases = [case for case in subject.cases(zoo.documents(zoo.TEXTS[:1])) if isinstance(case, Case)]
    return found, score(subject, cases, ["input-x-gradient"])


@pytest.fixture(scope="module")
def usual() -> tuple[list[Attribution], Any]:
    return everything("bert")


@pytest.mark.parametrize("name", SETTINGS)
def test_numbers_are_those_without(name: str, usual: Any) -> None:
    with SETTINGS[name]():
        before = state()
        found, scored = everything("bert")
        assert state() == before
    for mine, theirs in zip(found, usual[0], strict=True):
        assert np.array_equal(mine.layer_ig, theirs.layer_ig)
        assert np.array_equal(mine.context, theirs.context)
        assert np.array_equal(mine.logits, theirs.logits)
    for own, other in zip(scored, usual[1], strict=True):
        for method in own:
            assert np.array_equal(own[method].scores, other[method].scores)


def test_images_of_a_program_in_inference_mode_are_explained() -> None:
    explainer = zoo.explainer("vit", steps=4)
    (plain,) = explainer.explain([zoo.pixels(zoo.pictures(1))[0]])
    with torch.inference_mode():
        (found,) = explainer.explain([zoo.pixels(zoo.pictures(1))[0]])
    assert np.array_equal(found.layer_ig, plain.layer_ig)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_calig_s_own_inside_and_back_after_an_error(name: str) -> None:
    def failing() -> None:
        with own_settings():
            inside.append((state(), torch.ones(1).device.type))
            with torch.no_grad(), own_settings():
                assert not torch.is_grad_enabled()
            raise KeyError

    inside: list[Any] = []
    with SETTINGS[name]():
        before = state()
        with pytest.raises(KeyError):
            failing()
        assert state() == before
    ((grad, inference, autocast, dtype, matmul, *exact, _), device) = inside[0]
    assert (grad, inference, autocast, dtype) == (True, False, False, torch.float32)
    assert not {"bf16", "medium", "contradicted"} & {matmul, *exact}
    assert device == "cpu"


def test_the_last_of_several_threads_puts_the_process_back() -> None:
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))
    seen: list[torch.dtype] = []

    def first() -> None:
        with own_settings():
            first_is_in.set()
            second_is_in.wait(10)
        first_is_out.set()

    def second() -> None:
        first_is_in.wait(10)
        with own_settings():
            second_is_in.set()
            first_is_out.wait(10)
            seen.append(torch.get_default_dtype())

    with SETTINGS["dtype float64"]():
        threads = [threading.Thread(target=run) for run in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.get_default_dtype() is torch.float64
    assert seen == [torch.float32]
