"""CA-LIG and its parts as methods under evaluation: the three fusions, λ = 0, and LIG at every single depth.

All of them come from one explanation. What one would cost by itself is told from the nodes spent at each depth:
entering at depth l runs L − l of L blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from calig.attribution.fusion import agreement, column, rollout, trace
from calig.attribution.passes import numbers
from calig.attribution.quadrature import Float64
from calig.errors import DocumentError
from calig.evaluation.attention_peers import read_out
from calig.evaluation.subject import Case, Scored, Subject
from calig.records import Attribution, Float

TITLES = {
    "ca-lig": "CA-LIG",
    "ca-lig-0": "CA-LIG, λ = 0",
    "ca-lig-column": "CA-LIG, column",
    "ca-lig-rollout": "CA-LIG, rollout",
    "ca-lig-trace": "CA-LIG, trace",
    "lig": "LIG, mean of depths",
    "ig": "IG (depth 0)",
}
ENDS = 4
"""Passes that every path costs: forward and backward at the input and at the baseline."""


def titles(depth: int) -> dict[str, str]:
    """Names and titles of CA-LIG's own methods, for a model of L blocks."""
    return TITLES | {f"lig-{level}": f"LIG at depth {level}" for level in range(1, depth + 1)}


def explain(subject: Subject, cases: Sequence[Case], names: Sequence[str]) -> list[dict[str, Scored]]:
    """Scores of CA-LIG's own methods on cases, by name.

    Raises
    ------
    DocumentError
        A case cannot be explained after all.
    """
    found: list[Attribution] = []

    def run(cases: Sequence[Case]) -> list[Float64]:
        items = subject.explainer.attribute([c.document for c in cases], [c.target for c in cases])
        for item in items:
            if not isinstance(item, Attribution):
                raise DocumentError(item.reason, item.detail)
            found.append(item)
        return [item.scores.astype(np.float64) for item in found]

    whole = subject.measured(cases, run)
    mapped = {"ca-lig-column", "ca-lig-rollout", "ca-lig-trace"} & set(names)
    maps = attention_maps(subject, cases) if mapped else [None] * len(cases)
    return [
        {name: _scored(name, item, own, total, subject.explainer.method.weight) for name in names}
        for item, own, total in zip(found, maps, whole, strict=True)
    ]


def attention_maps(subject: Subject, cases: Sequence[Case]) -> list[tuple[Float, Float]]:
    """Per case Ā (L, T, T), the mean over heads of A ⊙ ∂y/∂A at the input, and the rows (T,) that the head reads."""
    found: dict[int, tuple[Float, Float]] = {}
    for group in subject.groups([case.encoded for case in cases]):
        members = [cases[i] for i in group]
        clean = subject.classifier.run(subject.batch([case.encoded for case in members]), attention=True)
        output = subject.explained(clean.logits, subject.targets(members)).sum()
        *gradients, last = torch.autograd.grad(output, [*clean.probabilities, clean.states[-1]])
        maps = [(a.detach() * g).mean(dim=1) for a, g in zip(clean.probabilities, gradients, strict=True)]
        stacked, rows = numbers(torch.stack(maps, dim=1)), numbers(read_out(last))
        for row, i in enumerate(group):
            size = len(cases[i].encoded)
            own = stacked[row, :, :size, :size].astype(np.float32)
            found[i] = own, rows[row, :size].astype(np.float32)
    return [found[i] for i in range(len(cases))]


def _scored(
    name: str, item: Attribution, maps: tuple[Float, Float] | None, total: Scored, weight: float
) -> Scored:
    depth = len(item.context)
    scores: Mapping[str, Callable[[], Float]] = {
        "ca-lig": lambda: item.scores,
        "ca-lig-0": lambda: agreement(item.layer_ig, item.context, item.heads, item.is_special, 0.0).sum(
            axis=0
        ),
        "ca-lig-column": lambda: _column_at_input(item, *_given(maps)),
        "ca-lig-rollout": lambda: rollout(item.layer_ig, *_given(maps), weight),
        "ca-lig-trace": lambda: trace(item.layer_ig, _given(maps)[0], weight),
        "lig": lambda: column(item.layer_ig, item.context, item.context_norm, 0.0).sum(axis=0),
    }
    if name in scores:
        return Scored(scores[name]().astype(np.float64), total.passes, total.seconds)
    level = 0 if name == "ig" else int(name.removeprefix("lig-"))
    entered = 2 * item.nodes * (depth - np.arange(depth + 1)) / depth
    share = (entered[level] + ENDS) / (entered.sum() + ENDS)
    return Scored(item.layer_ig[level].astype(np.float64), total.passes * share, total.seconds * share)


def _column_at_input(item: Attribution, maps: Float, _read_out: Float) -> Float:
    """The fusion as reconstructed from the paper: λ = 0.5, each term of norm 1, attention gradients at the input."""
    norms: Float = np.abs(maps).sum(axis=(1, 2))
    found: Float = column(item.layer_ig, maps.sum(axis=1), norms, 0.5).sum(axis=0)
    return found


def _given(maps: tuple[Float, Float] | None) -> tuple[Float, Float]:
    assert maps is not None
    return maps
