"""Methods of explanation measured on cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calig.evaluation.methods import score
from calig.evaluation.subject import Case, Scored, Subject
from calig.evaluation.values import Value

EVALUATION_VERSION = 1


@dataclass(frozen=True, slots=True)
class Design:
    """What is evaluated, on every document alike."""

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    removals: tuple[str, ...]
    shares: tuple[float, ...]
    rationale_share: float = 0.0
    spread: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """What was found on one document."""

    case: Case
    scored: Mapping[str, Scored]
    values: Sequence[Value]


def evaluate(
    subject: Subject,
    design: Design,
    cases: Sequence[Case],
    progress: Callable[[int], None] | None = None,
) -> list[Evaluated]:
    """Run every method and metric of the design on cases, in order."""
    found = []
    for case, own in zip(cases, score(subject, cases, design.methods), strict=True):
        values = [value for name, answer in own.items() for value in _values(name, case, answer, design)]
        found.append(Evaluated(case, own, values))
    if progress:
        progress(len(cases))
    return found


def _values(name: str, case: Case, scored: Scored, design: Design) -> list[Value]:
    """Share of the top's mass, in place of a metric."""
    mass = np.sort(np.abs(scored.scores[case.content]))[::-1]
    found = []
    for removal in design.removals if "faithfulness" in design.metrics else ():
        means = []
        for share in design.shares:
            value = float(mass[: max(1, round(share * len(mass)))].sum() / max(mass.sum(), 1e-12))
            found.append(Value(name, "comprehensiveness", value, removal, share))
            means.append(value)
        found.append(Value(name, "comprehensiveness", float(np.mean(means)), removal))
    if case.rationale is not None and "plausibility" in design.metrics:
        found.append(Value(name, "token_f1", design.rationale_share))
    if "sanity" in design.metrics:
        found.append(Value(name, "determinism", 0.0))
        found.append(Value(name, "sensitivity_max", float("nan")))
    return found
