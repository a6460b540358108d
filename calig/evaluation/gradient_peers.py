"""Explanations from gradients at the embeddings (the hidden state at depth 0), summed over its D dimensions.

Input × gradient needs no more than the model's own pass. The others are Captum's, over a function from the state at
depth 0 to the explained output; those that draw at random get a document at a time, so that its draws are its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calig.attribution.passes import contribution, numbers
from calig.attribution.quadrature import Float64
from calig.evaluation.subject import Case, Subject
from calig.models.inputs import Batch

SAMPLES = 50
"""Draws of SmoothGrad (its paper's number) and GradientSHAP."""
NOISE = 0.15
"""SmoothGrad's standard deviation, of the range of the document's state; its paper advises 0.1 to 0.2."""


def input_x_gradient(subject: Subject, cases: Sequence[Case]) -> list[Float64]:
    """Input × gradient (Shrikumar et al., 2016): Σ_d h[0, i, d] · ∂y/∂h[0, i, d]."""
    found: dict[int, Float64] = {}
    for group in subject.groups([case.encoded for case in cases]):
        members = [cases[i] for i in group]
        run = subject.classifier.run(subject.batch([case.encoded for case in members]))
        output = subject.explained(run.logits, subject.targets(members))
        (gradient,) = torch.autograd.grad(output.sum(), [run.states[0]])
        _keep(found, group, members, contribution(gradient, run.states[0].detach()))
    return [found[i] for i in range(len(cases))]


def smoothgrad(subject: Subject, cases: Sequence[Case]) -> list[Float64]:
    """SmoothGrad (Smilkov et al., 2017) of the gradient, times the input: Σ_d h[0] · mean of ∂y/∂h at h[0] + noise.

    The noise is Gaussian, of `NOISE` times the range of the document's own state; `SAMPLES` draws. It is not put into
    the factor h as well, which would add noise × gradient, of no meaning, to every token.
    """
    from captum.attr import NoiseTunnel, Saliency

    def explain(case: Case) -> Tensor:
        batch = subject.batch([case.encoded])
        state = _state(subject, batch)
        scale = NOISE * (state.max() - state.min())
        tunnel = NoiseTunnel(Saliency(_output(subject, case, batch, lambda z: state + scale * z)))
        gradient = tunnel.attribute(
            torch.zeros_like(state),
            nt_type="smoothgrad",
            nt_samples=SAMPLES,
            nt_samples_batch_size=min(SAMPLES, rows_that_fit(subject, case)),
            stdevs=1.0,
            abs=False,
        )
        return contribution(gradient / scale, state)

    return [_drawn(subject, case, "smoothgrad", explain) for case in cases]


def gradient_shap(subject: Subject, cases: Sequence[Case]) -> list[Float64]:
    """GradientSHAP, or expected gradients (Erion et al., 2021), with one baseline, the method's own; no noise added.

    Mean of Σ_d (h − h') · ∂y/∂h at h' + α(h − h') over `SAMPLES` draws of α from 0..1.
    """
    from captum.attr import GradientShap

    def explain(case: Case) -> Tensor:
        batch = subject.batch([case.encoded])
        state = _state(subject, batch)
        baseline = _state(subject, batch, subject.explainer.engine.passes.baseline)
        shap = GradientShap(_output(subject, case, batch, lambda state: state))
        total, rows = torch.zeros_like(state), rows_that_fit(subject, case)
        for first in range(0, SAMPLES, rows):
            draws = min(rows, SAMPLES - first)
            total += draws * shap.attribute(state, baseline, n_samples=draws, stdevs=0.0)
        return total.sum(dim=-1) / SAMPLES

    return [_drawn(subject, case, "gradient-shap", explain) for case in cases]


def deeplift(subject: Subject, cases: Sequence[Case]) -> list[Float64]:
    """DeepLIFT's rescale rule (Shrikumar et al., 2017), from the method's baseline, as Captum has it.

    The rule is applied at activation modules (ReLU, tanh, …). Attention and normalisation have none: the gradient at
    the input passes through them, so that scores do not add up to the change of output. Refused where the blocks'
    activations have no rule either (`no_rescale_rule`).
    """
    from captum.attr import DeepLift

    found: dict[int, Float64] = {}
    for group in subject.groups([case.encoded for case in cases], copies=2):
        members = [cases[i] for i in group]
        batch = subject.batch([case.encoded for case in members])
        state = _state(subject, batch)
        baseline = _state(subject, batch, subject.explainer.engine.passes.baseline)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
            lift = DeepLift(_FromState(subject, members, batch))
            attributed = lift.attribute(state.requires_grad_(), baseline)
        _keep(found, group, members, attributed.detach().sum(dim=-1))
    return [found[i] for i in range(len(cases))]


def no_rescale_rule(subject: Subject) -> str | None:
    """Why DeepLIFT's rescale rule says nothing of this model, if so (one line)."""
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    blocks = list(subject.classifier.blocks)
    instead = "use gradient-shap or ig"
    if len({id(block) for block in blocks}) < len(blocks):
        return f"DeepLIFT cannot follow a module that runs twice, and this model's blocks share theirs; {instead}"
    kinds = {type(m) for block in blocks for m in block.modules() if type(m).__module__ in _ACTIVATIONS}
    without = sorted(kind.__name__ for kind in kinds if kind not in SUPPORTED_NON_LINEAR)
    if without or not kinds:
        what = ", ".join(without) or "the activations of this model, which are no modules"
        return f"DeepLIFT has no rule for {what}: only the gradient times the difference would be left; {instead}"
    return None


_ACTIVATIONS = ("torch.nn.modules.activation", "transformers.activations")


class _FromState(nn.Module):
    """The explained outputs (rows,) of a model entered at depth 0 with states of whole copies of a batch in turn."""

    def __init__(self, subject: Subject, cases: Sequence[Case], batch: Batch) -> None:
        super().__init__()
        self.model = subject.classifier.model
        self._subject, self._batch = subject, batch
        self._targets = subject.targets(cases)

    def forward(self, state: Tensor) -> Tensor:
        rows = torch.arange(len(self._targets), device=state.device).repeat(len(state) // len(self._targets))
        logits = self._subject.classifier.run_from(0, state, self._batch.rows(rows, state.shape[1]))
        return self._subject.explained(logits, self._targets[rows])


def _output(
    subject: Subject, case: Case, batch: Batch, state: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """The explained outputs (rows,) of one case, of what `state` makes (rows, T, D)."""

    def forward(given: Tensor) -> Tensor:
        entered = state(given)
        rows = torch.zeros(len(entered), dtype=torch.long, device=entered.device)
        logits = subject.classifier.run_from(0, entered, batch.rows(rows, entered.shape[1]))
        return subject.explained(logits, subject.targets([case] * len(entered)))

    return forward


def rows_that_fit(subject: Subject, case: Case) -> int:
    """Copies of a document that share a batch."""
    return max(1, subject.explainer.engine.passes.token_budget // len(case.encoded))


@contextmanager
def seeded(subject: Subject, case: Case, purpose: str) -> Iterator[None]:
    """Let torch and NumPy draw what belongs to the document and purpose; their own state is as before afterwards."""
    generator, device = subject.generator(case, purpose), subject.classifier.device
    of_torch, of_numpy = (int(generator.integers(2**bits)) for bits in (63, 32))
    before = np.random.get_state()
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        torch.default_generator.manual_seed(of_torch)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(of_torch)
        np.random.seed(of_numpy)
        try:
            yield
        finally:
            np.random.set_state(before)


def _state(subject: Subject, batch: Batch, baseline: Any = None) -> Tensor:
    """(B, T, D) the hidden state at depth 0, of the input or of its baseline."""
    with torch.no_grad():
        return subject.classifier.run(batch, baseline).states[0]


def _drawn(subject: Subject, case: Case, purpose: str, explain: Callable[[Case], Tensor]) -> Float64:
    with seeded(subject, case, purpose):
        scores: Float64 = numbers(explain(case).detach())[0]
    return scores


def _keep(found: dict[int, Float64], group: Sequence[int], cases: Sequence[Case], scores: Tensor) -> None:
    rows = numbers(scores)
    found.update({i: row[: len(c.encoded)] for i, c, row in zip(group, cases, rows, strict=True)})
