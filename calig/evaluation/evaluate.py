"""Methods × metrics on some documents: what a shard of an evaluation computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from calig.attribution.quadrature import Float64
from calig.evaluation import sanity
from calig.evaluation.faithfulness import faithfulness, perturbation
from calig.evaluation.methods import score
from calig.evaluation.plausibility import plausibility
from calig.evaluation.published import as_published
from calig.evaluation.subject import Case, Scored, Subject
from calig.evaluation.values import Value
from calig.models.settings import own_settings

EVALUATION_VERSION = 1
"""Part of every evaluation's key: bumped when the numbers change."""


@dataclass(frozen=True, slots=True)
class Design:
    """What is evaluated, on every document alike.

    Attributes
    ----------
    methods
        Names of methods of explanation, as in `calig.evaluation.methods`.
    metrics
        Groups of metrics: `faithfulness`, `published`, `plausibility`, `sanity`.
    removals
        How content is removed, as in `calig.evaluation.removal`.
    shares
        Shares of the content that are removed or kept.
    rationale_share
        Mean share of words that people marked, over the documents with a rationale.
    spread
        Of a regression: standard deviation of its outputs over the corpus.
    """

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    removals: tuple[str, ...]
    shares: tuple[float, ...]
    rationale_share: float = 0.0
    spread: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """What was found on one document: each method's scores with their cost, and the metrics' values."""

    case: Case
    scored: Mapping[str, Scored]
    values: Sequence[Value]


@own_settings()
def evaluate(
    subject: Subject,
    design: Design,
    cases: Sequence[Case],
    progress: Callable[[int], None] | None = None,
) -> list[Evaluated]:
    """Run every method and metric of the design on cases, in order.

    Parameters
    ----------
    subject
        The model.
    design
        What is evaluated.
    cases
        Documents, with what is explained of each.
    progress
        Called with the number of documents just done.
    """
    if not cases:
        return []
    scored = score(subject, cases, design.methods)
    scores = [{name: answer.scores for name, answer in own.items()} for own in scored]
    groups: list[list[list[Value]]] = []
    if "faithfulness" in design.metrics:
        groups.append(
            faithfulness(subject, cases, scores, design.removals, design.shares, spread=design.spread)
        )
        if subject.explainer.modality == "image":
            groups.append(perturbation(subject, cases, scores, design.removals, spread=design.spread))
    if "published" in design.metrics:
        groups.append(as_published(subject, cases, scores, design.removals))
    if "plausibility" in design.metrics:
        share = design.rationale_share
        groups.append([plausibility(case, own, share) for case, own in zip(cases, scores, strict=True)])
    if "sanity" in design.metrics:
        checks = (sanity.randomisation, sanity.sensitivity_max, sanity.determinism, sanity.batch_invariance)

        def run(other: Subject, some: Sequence[Case]) -> list[dict[str, Float64]]:
            answers = score(other, some, design.methods)
            return [{name: answer.scores for name, answer in own.items()} for own in answers]

        groups += [check(subject, cases, scores, run) for check in checks]
    if progress:
        progress(len(cases))
    return [
        Evaluated(case, own, [value for group in groups for value in group[i]])
        for i, (case, own) in enumerate(zip(cases, scored, strict=True))
    ]
