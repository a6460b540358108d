"""The methods of explanation that are compared."""

from __future__ import annotations

from collections.abc import Sequence

from calig.attribution.quadrature import Float64
from calig.evaluation.subject import Case, Scored, Subject
from calig.records import Attribution

_TITLES = {"ca-lig": "CA-LIG", "ig": "Integrated gradients", "lig": "LIG", "random": "Random scores"}


def titles(subject: Subject, names: Sequence[str] | None = None) -> dict[str, tuple[str, str | None]]:
    """Title of each method, and why it does not apply to this model, where that is so; None: all there are."""
    return {
        name: (_TITLES.get(name, name), None if name in _TITLES else f"{name} is not there yet")
        for name in names or _TITLES
    }


def score(subject: Subject, cases: Sequence[Case], names: Sequence[str]) -> list[dict[str, Scored]]:
    """Scores of each method on every case, by name."""
    found: list[dict[str, Scored]] = [{} for _ in cases]
    for name in names:

        def method(some: Sequence[Case], name: str = name) -> list[Float64]:
            if name == "random":
                return [subject.generator(case, "random").normal(size=len(case.encoded)) for case in some]
            answers = subject.explainer.attribute(
                [case.document for case in some], [case.target for case in some]
            )
            explained = [a for a in answers if isinstance(a, Attribution)]
            read = {"ca-lig": lambda a: a.scores, "ig": lambda a: a.layer_ig[0]}
            return [read.get(name, lambda a: a.layer_ig[:-1].mean(axis=0))(a) for a in explained]

        for own, answer in zip(found, subject.measured(cases, method), strict=True):
            own[name] = answer
    return found
