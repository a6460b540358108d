"""Subjects whose answers are known: a model that adds up one number for every token, and the zoo's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calig.attribution.quadrature import Float64
from calig.evaluation.subject import Case, Subject
from tests.material import zoo


@dataclass(slots=True, eq=False)
class Additive(Subject):
    """Logits (0, z), z the sum of its tokens' weights; it counts the inputs that it answers."""

    weights: Mapping[str, float] = field(default_factory=dict)
    answered: list[int] = field(default_factory=list)

    def logits(self, encoded: Sequence[Any]) -> Float64:
        self.answered.append(len(encoded))
        sums = [sum(self.weights.get(token, 0.0) for token in item.tokens) for item in encoded]
        return np.array([[0.0, z] for z in sums])


def additive(weights: Mapping[str, float], target: int | str = "predicted") -> Additive:
    """An additive model that reads like the zoo's BERT, a word a token."""
    return Additive(zoo.explainer("bert", target=target), weights=weights)


def cases(subject: Subject, items: Sequence[Any]) -> list[Case]:
    """The texts or images as cases; none fails."""
    found = subject.cases(zoo.documents(items))
    kept = [case for case in found if isinstance(case, Case)]
    assert len(kept) == len(items)
    return kept


def at(values: Sequence[Any], **facts: Any) -> float:
    """The one value of these facts."""
    (found,) = [v.value for v in values if all(getattr(v, name) == fact for name, fact in facts.items())]
    return float(found)
