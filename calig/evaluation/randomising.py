"""A model that forgets what it learned, from the head down: what an explanation that follows the model must follow.

Stages are cumulative: the head (whatever first runs after the last block), then blocks L..1, then everything else (what
runs before the blocks: embeddings, their norms, and tables that blocks share). A module that serves several blocks is
one stage. Every parameter is drawn anew from the normal distribution of its own mean and standard deviation: it works
for every family, and leaves activations at a scale that the model's own norms were made for. A parameter of one value
only, such as a norm's weights that were never trained, is drawn with the standard deviation of the configuration's
`initializer_range`.

References
----------
J. Adebayo et al., *Sanity Checks for Saliency Maps*, NeurIPS 2018, section 3.1: cascading randomisation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import nn

from calig.attribution.explainer import Explainer
from calig.evaluation.subject import Case, Subject
from calig.models.loading import Pretrained

_INITIAL = 0.02
"""Standard deviation of initial weights where the configuration names none."""


def randomised(subject: Subject, example: Case) -> Iterator[tuple[float, Subject]]:
    """The model, randomised from the head down: at each stage, the share of stages done, and a subject like the given.

    Subjects share one copy of the model: use each before the next is asked for. The given model stays as it is.

    Parameters
    ----------
    subject
        The model; its seed decides what is drawn.
    example
        A document, run once to see which modules come after the last block.
    """
    own = subject.explainer
    model = copy.deepcopy(own.pretrained.model)
    pretrained = replace(own.pretrained, model=model)
    generator = torch.Generator().manual_seed(subject.seed)
    stages = _stages(replace(subject, explainer=_again(own, pretrained)), example)
    for done, parameters in enumerate(stages, start=1):
        for parameter in parameters:
            _redraw(parameter, float(getattr(model.config, "initializer_range", _INITIAL)), generator)
        yield done / len(stages), replace(subject, explainer=_again(own, pretrained))


def _again(own: Explainer, pretrained: Pretrained) -> Explainer:
    """The same method on another model: its baseline is looked up there."""
    return Explainer(pretrained, own.method, own.schedule, own.engine.passes.token_budget)


def _stages(subject: Subject, example: Case) -> list[list[nn.Parameter]]:
    """Parameters of each stage, head first, every parameter of the model in exactly one of them."""
    model = subject.explainer.pretrained.model
    blocks: list[nn.Module] = list(dict.fromkeys(subject.classifier.blocks))
    within = {module for block in blocks for module in block.modules()}
    after = [module for module in _ran_after(subject, blocks[-1], example) if module not in within]
    parts = [
        [p for module in after for p in module.parameters(recurse=False)],
        *([*block.parameters()] for block in reversed(blocks)),
        [*model.parameters()],
    ]
    seen: set[nn.Parameter] = set()
    stages = []
    for part in parts:
        fresh = [parameter for parameter in dict.fromkeys(part) if parameter not in seen]
        seen.update(fresh)
        if fresh:
            stages.append(fresh)
    return stages


def _ran_after(subject: Subject, last: nn.Module, example: Case) -> Sequence[nn.Module]:
    """Modules that hold parameters and first run after the last block has."""
    model = subject.explainer.pretrained.model
    order: list[nn.Module] = []
    ended: list[int] = []
    with ExitStack() as stack:
        for module in model.modules():
            if next(module.parameters(recurse=False), None) is not None:
                hook = module.register_forward_pre_hook(lambda own, _args: order.append(own))
                stack.callback(hook.remove)
        hook = last.register_forward_hook(lambda *_: ended.append(len(order)))
        stack.callback(hook.remove)
        subject.logits([example.encoded])
    before = set(order[: ended[-1]])
    return [module for module in dict.fromkeys(order) if module not in before]


def _redraw(parameter: nn.Parameter, initial: float, generator: torch.Generator) -> None:
    with torch.no_grad():
        old = parameter.detach().double().cpu()
        spread = float(old.std()) if old.numel() > 1 else 0.0
        drawn = torch.randn(old.shape, generator=generator, dtype=torch.float64)
        parameter.copy_((old.mean() + (spread or initial) * drawn).to(parameter.dtype))
