"""Does an explanation depend on the model, and on nothing else? Sanity checks that need no labels.

Every check runs a method again under another condition and compares its scores with those of the document as it is, on
content tokens.

    randomisation     Spearman correlation of |scores| with those of a model that is randomised from the head down, at
                      every stage (share: the share of stages done) and on average over the stages (share None). The
                      model as it is is no stage: Quantus's average counts it, which lifts every method alike.
    sensitivity_max   the largest ‖A(x + δ) − A(x)‖₂ / ‖A(x)‖₂ over draws of noise δ at the input.
    determinism       max |A' − A| / max |A| of a second run.
    batch_invariance  the same of a run of each document by itself.

Smaller is better for all four. A correlation with scores that are all alike has no value (NaN).

References
----------
J. Adebayo et al., *Sanity Checks for Saliency Maps*, NeurIPS 2018.
C.-K. Yeh et al., *On the (In)fidelity and Sensitivity of Explanations*, NeurIPS 2019, definition 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from calig.attribution.quadrature import Float64
from calig.evaluation.noise import perturbed
from calig.evaluation.randomising import randomised
from calig.evaluation.subject import Case, Subject
from calig.evaluation.values import Value

Score: TypeAlias = Callable[[Subject, Sequence[Case]], Sequence[Mapping[str, Float64]]]
"""Runs methods on a model's documents: per document, each method's scores (T,)."""
Scores: TypeAlias = Sequence[Mapping[str, Float64]]

RADIUS = 0.02
DRAWS = 10


def randomisation(subject: Subject, cases: Sequence[Case], scores: Scores, score: Score) -> list[list[Value]]:
    """Correlation of every method's |scores| with those of the randomised model; per case.

    Parameters
    ----------
    subject
        The model.
    cases
        n documents; the class explained stays theirs.
    scores
        What the methods found on the model as it is.
    score
        Runs the methods.
    """
    found: list[list[Value]] = [[] for _ in cases]
    if not cases:
        return found
    curves: list[dict[str, list[float]]] = [{method: [] for method in own} for own in scores]
    for share, other in randomised(subject, cases[0]):
        again = score(other, cases)
        for case, values, curve, before, after in zip(cases, found, curves, scores, again, strict=True):
            for method in before:
                alike = spearman(*(np.abs(own[method][case.content]) for own in (before, after)))
                curve[method].append(alike)
                values.append(Value(method, "randomisation", alike, share=share))
    for values, curve in zip(found, curves, strict=True):
        values += [Value(method, "randomisation", float(np.mean(own))) for method, own in curve.items()]
    return found


def sensitivity_max(
    subject: Subject,
    cases: Sequence[Case],
    scores: Scores,
    score: Score,
    radius: float = RADIUS,
    draws: int = DRAWS,
) -> list[list[Value]]:
    """The most that noise at the input moves every method's scores; per case. Parameters as in `randomisation`.

    `radius` is that of `calig.evaluation.noise.perturbed`; the maximum is over `draws` draws. Where all scores are 0,
    the change is not divided by their norm.
    """
    worst: list[dict[str, float]] = [dict.fromkeys(own, 0.0) for own in scores]
    for draw in range(draws):
        with perturbed(subject, cases, draw, radius) as noisy:
            again = score(subject, noisy)
        for case, most, before, after in zip(cases, worst, scores, again, strict=True):
            for method in before:
                one, other = (own[method][case.content] for own in (before, after))
                moved = float(np.linalg.norm(other - one)) / (float(np.linalg.norm(one)) or 1.0)
                most[method] = float(np.maximum(most[method], moved))  # NaN stays
    return _values("sensitivity_max", worst)


def determinism(subject: Subject, cases: Sequence[Case], scores: Scores, score: Score) -> list[list[Value]]:
    """How much every method's scores differ from run to run; per case. Parameters as in `randomisation`."""
    return _values("determinism", _differences(cases, scores, score(subject, cases)))


def batch_invariance(
    subject: Subject, cases: Sequence[Case], scores: Scores, score: Score
) -> list[list[Value]]:
    """How much every method's scores depend on what shares the batch; per case. Parameters as in `randomisation`.

    Each document is explained by itself; `scores` are of a run in company.
    """
    alone = [score(subject, [case])[0] for case in cases]
    return _values("batch_invariance", _differences(cases, scores, alone))


def spearman(one: Float64, other: Float64) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where one is constant."""
    ours, theirs = _ranks(one), _ranks(other)
    if any(len(ranks) < 2 or not np.isfinite(ranks).all() or np.ptp(ranks) == 0 for ranks in (ours, theirs)):
        return float("nan")
    return float(np.corrcoef(ours, theirs)[0, 1])


def _ranks(values: Float64) -> Float64:
    if not np.isfinite(values).all():
        return np.full(len(values), np.nan)
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(sizes) - (sizes - 1) / 2)[group])


def _differences(cases: Sequence[Case], scores: Scores, again: Scores) -> list[dict[str, float]]:
    found = []
    for case, before, after in zip(cases, scores, again, strict=True):
        own = {}
        for method in before:
            one, other = (numbers[method][case.content] for numbers in (before, after))
            own[method] = float(np.abs(other - one).max()) / (float(np.abs(one).max()) or 1.0)
        found.append(own)
    return found


def _values(metric: str, found: Sequence[Mapping[str, float]]) -> list[list[Value]]:
    return [[Value(method, metric, number) for method, number in own.items()] for own in found]
