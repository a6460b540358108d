"""The model under a little noise at its input, so that any method explains a document beside the given one.

Uniform noise of a radius relative to the input's scale: on an image, its pixel values; on a text, its word embeddings,
whose mean absolute value in the model's table is the scale. A token's noise depends on the seed and its position alone,
so that it is the same in every pass of a method, whatever shares the batch. It is added as the embedding module
returns, before whatever a method or a baseline then puts in the place of content: baselines stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calig.evaluation.subject import Case, Subject
from calig.models.images import EncodedImage


@contextmanager
def perturbed(subject: Subject, cases: Sequence[Case], seed: int, radius: float) -> Iterator[list[Case]]:
    """Let every method that runs in the `with` block, on the cases that it is given, see inputs with noise.

    Parameters
    ----------
    subject
        The model; changed by a hook for the time of the block.
    cases
        The documents. Texts come back as they are, since their noise is in the model; images with other pixels.
    seed
        Of the noise, beside the subject's own.
    radius
        Largest noise, relative to the mean absolute value of pixels, or of the table of word embeddings.
    """
    if subject.explainer.modality == "image":
        yield [_moved(case, (subject.seed, seed), radius) for case in cases]
        return
    model = subject.explainer.pretrained.model
    table = model.get_input_embeddings()
    scale = radius * float(table.weight.detach().abs().mean())  # type: ignore[operator]
    known: dict[tuple[int, int], Tensor] = {}
    calls = 0

    def begin(_module: nn.Module, _args: Any) -> None:
        nonlocal calls
        calls = 0

    def add(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if (
            calls > 1 or output.ndim != 3
        ):  # GPT-2 looks token types up here too; a baseline's own token is (1, E)
            return output
        size = (output.shape[1], output.shape[2])
        if size not in known:
            drawn = np.random.default_rng([subject.seed, seed]).uniform(-scale, scale, size)
            known[size] = torch.from_numpy(drawn).to(output.device, output.dtype)
        return output + known[size]

    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(begin).remove)
        stack.callback(table.register_forward_hook(add).remove)
        yield list(cases)


def _moved(case: Case, seeds: tuple[int, int], radius: float) -> Case:
    assert isinstance(case.encoded, EncodedImage)
    pixels = case.encoded.pixels
    scale = radius * float(pixels.abs().mean())
    drawn = np.random.default_rng(seeds).uniform(-scale, scale, tuple(pixels.shape))
    return replace(
        case, encoded=replace(case.encoded, pixels=pixels + torch.from_numpy(drawn).to(pixels.dtype))
    )
