"""Explanations from attention, the peers that read the same probabilities A and gradients ∂y/∂A as CA-LIG.

One forward pass with attention written out, one backward pass as far down as the method looks. A is (heads, T, T), its
rows are queries; padding is never attended to, so it takes part in nothing. A method that makes a map over tokens ×
tokens is read at the rows that the head reads (`read_out`): [CLS], all rows, or the last token, as the model has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce

import torch
from torch import Tensor

from calig.attribution.passes import contribution, numbers
from calig.attribution.quadrature import Float64
from calig.evaluation.subject import Case, Subject
from calig.models.classifier import Pass
from calig.models.inputs import Batch


def read_out(gradients_at_last_state: Tensor) -> Tensor:
    """(B, T) how much the head reads each row of the last block's output; each document's weights sum to 1.

    The L1 norms of the output's gradient there, normalised. For a head that pools one row this is 1 at that row (the
    first, or a decoder's last token) and 0 elsewhere; a head that averages rows spreads it over them, and leaves none
    to padding.

    Parameters
    ----------
    gradients_at_last_state
        (B, T, D) gradient of the explained output at depth L.
    """
    norms = gradients_at_last_state.abs().sum(dim=-1, dtype=torch.float64)
    return norms / norms.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)


def attention_rollout(subject: Subject, cases: Sequence[Case]) -> list[Float64]:
    """Attention rollout (Abnar and Zuidema, 2020): how much of each token reaches the head; never negative.

    R = Π_l (½·I + ½·mean over heads of A[l]), the last block leftmost, read at the rows that the head reads.
    """

    def relevance(run: Pass, output: Tensor, _batch: Batch) -> Tensor:
        (last,) = torch.autograd.grad(output, [run.states[-1]])
        mixed = [(a.detach().double().mean(dim=1) + _eye(a)) / 2 for a in run.probabilities]
        return _read(read_out(last), reduce(lambda below, above: above @ below, mixed))

    return _explained(subject, cases, relevance)


def attention_x_gradient(subject: Subject, cases: Sequence[Case]) -> list[Float64]:
    """Generic attention explainability (Chefer, Gur and Wolf, 2021) for self-attention; never negative.

    R ← R + Ā[l]·R from R = I, with Ā[l] = mean over heads of relu(A ⊙ ∂y/∂A), read at the rows that the head reads.
    The I that R starts from is taken off again, as the authors' code does at [CLS]: where the head reads a token of
    the document itself, as a decoder's does, it would outweigh everything.
    """

    def relevance(run: Pass, output: Tensor, _batch: Batch) -> Tensor:
        *gradients, last = torch.autograd.grad(output, [*run.probabilities, run.states[-1]])
        found = _eye(run.probabilities[0])
        for a, gradient in zip(run.probabilities, gradients, strict=True):
            found = found + (a.detach().double() * gradient.double()).relu().mean(dim=1) @ found
        return _read(read_out(last), found - _eye(run.probabilities[0]))

    return _explained(subject, cases, relevance)


def attcat(subject: Subject, cases: Sequence[Case]) -> list[Float64]:
    """Attentive class activation tokens, AttCAT (Qiang, Pan, Li, Li, Jang and Zhu, 2022); signed.

    Σ_l a[l, j] · Σ_d h[l−1, j, d] · ∂y/∂h[l−1, j, d] over blocks l: the class activation of the token that block l is
    given, weighted by the attention that it gets there, a[l, j] = mean over heads and queries i of A[l][i, j]. As in
    the authors' code; nothing is clamped.
    """

    def relevance(run: Pass, output: Tensor, batch: Batch) -> Tensor:
        states = run.states[:-1]
        gradients = torch.autograd.grad(output, states)
        queries = batch.mask.double() / batch.mask.sum(dim=1, keepdim=True)
        attended = [_read(queries, a.detach().double().mean(dim=1)) for a in run.probabilities]
        activations = [contribution(g, state.detach()) for g, state in zip(gradients, states, strict=True)]
        weighted = [a * c.double() for a, c in zip(attended, activations, strict=True)]
        return torch.stack(weighted).sum(dim=0)

    return _explained(subject, cases, relevance)


def attention_grad_cam(subject: Subject, cases: Sequence[Case]) -> list[Float64]:
    """Grad-CAM (Selvaraju et al., 2017) with the last block's heads as channels, as in Chefer et al. (2021); signed.

    mean over heads of α·A[L], α = the head's mean of ∂y/∂A[L] over where it attends, read at the rows that the head
    reads. Grad-CAM's last step, relu, is left out: it would tie all tokens that speak against the class.
    """

    def relevance(run: Pass, output: Tensor, _batch: Batch) -> Tensor:
        gradient, last = torch.autograd.grad(output, [run.probabilities[-1], run.states[-1]])
        attention = run.probabilities[-1].detach().double()
        rows = read_out(last)
        attended = (attention > 0) & (rows > 0)[:, None, :, None]
        count = attended.sum(dim=(2, 3), keepdim=True).clamp_min(1)
        weight = (gradient.double() * attended).sum(dim=(2, 3), keepdim=True) / count
        return _read(rows, (weight * attention).mean(dim=1))

    return _explained(subject, cases, relevance)


def _explained(
    subject: Subject, cases: Sequence[Case], relevance: Callable[[Pass, Tensor, Batch], Tensor]
) -> list[Float64]:
    """Each case's share (T,) of `relevance(pass, summed output, batch)` (B, T)."""
    found: dict[int, Float64] = {}
    for group in _groups(subject, cases):
        batch = subject.batch([cases[i].encoded for i in group])
        run = subject.classifier.run(batch, attention=True)
        output = subject.explained(run.logits, subject.targets([cases[i] for i in group])).sum()
        rows = numbers(relevance(run, output, batch).detach())
        found.update({i: row[: len(cases[i].encoded)] for i, row in zip(group, rows, strict=True)})
    return [found[i] for i in range(len(cases))]


def _groups(subject: Subject, cases: Sequence[Case]) -> Iterator[list[int]]:
    """Cases that share a batch, so few that all their attention maps fit as well."""
    per_map = subject.classifier.depth * subject.classifier.heads
    for group in subject.groups([case.encoded for case in cases]):
        longest = max(len(cases[i].encoded) for i in group)
        rows = max(1, subject.explainer.engine.passes.attention_budget // (per_map * longest**2))
        yield from (group[first : first + rows] for first in range(0, len(group), rows))


def _read(rows: Tensor, maps: Tensor) -> Tensor:
    """(B, T) the rows of maps (B, T, T), weighted by `rows` (B, T)."""
    return (rows[:, None, :] @ maps)[:, 0]


def _eye(maps: Tensor) -> Tensor:
    """The identity (T, T) that goes with attention maps."""
    return torch.eye(maps.shape[-1], dtype=torch.float64, device=maps.device)
