"""Faithfulness as AttCAT's authors published it, beside the corrected metrics: to compare with their tables only.

From their code (`SST-2_Test.ipynb` at github.com/qiangyao1988/AttCAT, commit 6a2e38f): of a text of T tokens, special
ones counted, round(T·i/9) tokens are removed for i = 1..9 (to even at a half), by deletion or by padding. All tokens
are ranked by signed score, highest first; special tokens are passed over, and so is whatever is ranked last of all.
Texts of fewer than ten tokens are left out. With p₀ the probability of the explained class and pᵢ that after a removal,

    aopc_as_published      mean over i of |p₀ − pᵢ|;
    log_odds_as_published  mean over i of log(pᵢ/p₀), called LOdds, a log-probability ratio.

What is not as they have it: the explained class is the case's, theirs is the label (so is the case's with
`method.target: label`); ties are broken by position.

References
----------
Y. Qiang et al., *AttCAT: Explaining Transformers via Attentive Class Activation Tokens*, NeurIPS 2022, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from calig.attribution.quadrature import Float64
from calig.evaluation.faithfulness import Asked, windows
from calig.evaluation.subject import Case, Subject
from calig.evaluation.values import Value
from calig.records import Bool

STEPS = 9
SHORTEST = 10
"""Tokens of the shortest text that is evaluated, special ones counted."""
REMOVALS = ("delete", "pad")


def as_published(
    subject: Subject, cases: Sequence[Case], scores: Sequence[Mapping[str, Float64]], removals: Sequence[str]
) -> list[list[Value]]:
    """AttCAT's two metrics of every method, and of those of the removals that they have; per case.

    Nothing of a text of fewer than ten tokens, of images, or of a regression. Parameters and errors as in
    `calig.evaluation.faithfulness.faithfulness`.
    """
    if subject.head == "regression" or subject.explainer.modality == "image":
        return [[] for _ in cases]
    theirs = [how for how in removals if how in REMOVALS]
    found: list[list[Value]] = []
    for window, scored in windows(cases, scores):
        asked = Asked(subject)
        for case, methods in zip(window, scored, strict=True):
            for own in methods.values():
                for gone in _removed(case, own):
                    for how in theirs:
                        asked.add(case, gone, how)
        asked.run()
        found += [
            [
                value
                for method, own in methods.items()
                for how in theirs
                for value in _of_method(asked, case, method, own, how)
            ]
            for case, methods in zip(window, scored, strict=True)
        ]
    return found


def _removed(case: Case, scores: Float64) -> Iterator[Bool]:
    """What is removed at each step; nothing of a short text, or of scores that are not finite."""
    length = len(scores)
    if length < SHORTEST or not np.isfinite(scores).all():
        return
    order = np.argsort(-scores, kind="stable")[:-1]
    order = order[case.content[order]]
    for size in np.round(np.linspace(0, 1, STEPS + 1) * length).astype(int)[1:]:
        gone = np.zeros(length, dtype=np.bool_)
        gone[order[:size]] = True
        yield gone


def _of_method(asked: Asked, case: Case, method: str, scores: Float64, how: str) -> Iterator[Value]:
    before = asked.log_probability(case)
    after = [asked.log_probability(case, gone, how) for gone in _removed(case, scores)]
    if after:
        drops = [abs(math.exp(before) - math.exp(log)) for log in after]
        yield Value(method, "aopc_as_published", float(np.mean(drops)), how)
        yield Value(method, "log_odds_as_published", float(np.mean(after)) - before, how)
