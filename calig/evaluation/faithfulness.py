"""Does the model's answer follow from what an explanation ranks highest? Removal metrics on texts and images.

Content tokens are ranked by signed score, highest first, ties by position. Of n tokens the top share k is k·n of them,
rounded half up, at least one. With p the probability of the explained class,

    comprehensiveness  p(x) − p(x without the top k),         higher is better;
    sufficiency        p(x) − p(only the top k of x),         lower is better;
    log_ratio          log p(x without the top k) − log p(x), lower is better;

each for every share, and as the mean over shares (AOPC, share None). `comprehensiveness_eraser` and
`sufficiency_eraser` are the AOPC over ERASER's shares. Of several labels, p is the sigmoid of the target's logit; of a
regression, its value over its standard deviation in the corpus stands in p's place, and there is no log ratio.

References
----------
J. DeYoung et al., *ERASER: A Benchmark to Evaluate Rationalized NLP Models*, ACL 2020, equations 1 and 2, section 4.2.
W. Samek et al., *Evaluating the Visualization of What a Deep Neural Network Has Learned*, 2017: AOPC.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from calig.attribution.quadrature import Float64
from calig.evaluation.outputs import log_probabilities
from calig.evaluation.removal import Removal, answers
from calig.evaluation.subject import Case, Subject
from calig.evaluation.values import Value
from calig.records import Bool

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
ERASER_SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
CURVE_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of patches that are removed of images."""
WINDOW = 64
"""Documents whose removals are held, and run, together."""


def faithfulness(
    subject: Subject,
    cases: Sequence[Case],
    scores: Sequence[Mapping[str, Float64]],
    removals: Sequence[str],
    shares: Sequence[float] = SHARES,
    spread: float = 1.0,
) -> list[list[Value]]:
    """Comprehensiveness, sufficiency and log ratio of every method, removal and share; per case.

    A removal that several methods, shares or metrics ask for is run once.

    Parameters
    ----------
    subject
        The model.
    cases
        n documents.
    scores
        Per document, each method's signed scores (T,). A method whose scores are not finite gets NaN.
    removals
        How content is removed, as in `calig.evaluation.removal`.
    shares
        Shares k of the content.
    spread
        Of a regression: the standard deviation of its output in the corpus.

    Raises
    ------
    InputError
        The model has not such a removal.
    """
    found: list[list[Value]] = []
    every = list(dict.fromkeys([*shares, *ERASER_SHARES]))
    for window, scored in windows(cases, scores):
        asked = Asked(subject)
        for case, methods in zip(window, scored, strict=True):
            for top in _tops(case, methods.values(), every):
                for how in removals:
                    asked.add(case, top, how)
                    asked.add(case, case.content & ~top, how)
        asked.run()
        found += [
            [
                value
                for method, own in methods.items()
                for how in removals
                for value in _of_method(asked, case, method, own, how, shares, spread)
            ]
            for case, methods in zip(window, scored, strict=True)
        ]
    return found


def perturbation(
    subject: Subject,
    cases: Sequence[Case],
    scores: Sequence[Mapping[str, Float64]],
    removals: Sequence[str],
    spread: float = 1.0,
) -> list[list[Value]]:
    """Perturbation curves of images, and the areas under them; per case.

    `curve_positive` is p with a share of 0, 10, …, 90 % of patches removed, the most relevant first, and
    `curve_negative` with the least relevant first. `auc_positive` (lower is better) and `auc_negative` (higher is
    better) are the curves' integrals by trapezoids over the width of their range, 0.9: means, whatever the number of
    steps. Parameters and errors as in `faithfulness`; of a regression, its value over `spread` stands in p's place.

    References
    ----------
    H. Chefer, S. Gur, L. Wolf, *Transformer Interpretability Beyond Attention Visualization*, CVPR 2021, section 4;
    there the accuracy is read, of pixels, and without share 0.
    """
    found: list[list[Value]] = []
    for window, scored in windows(cases, scores):
        asked = Asked(subject)
        for case, methods in zip(window, scored, strict=True):
            signed = [sign * own for own in methods.values() for sign in (1, -1)]
            for top in _tops(case, signed, CURVE_SHARES):
                for how in removals:
                    asked.add(case, top, how)
        asked.run()
        for case, methods in zip(window, scored, strict=True):
            values: list[Value] = []
            for method, own in methods.items():
                for how in removals:
                    values += _curve(asked, case, method, "positive", own, how, spread)
                    values += _curve(asked, case, method, "negative", -own, how, spread)
            found.append(values)
    return found


@dataclass(slots=True, eq=False)
class Asked:
    """Removals that are asked for, each once, and, when they have been run, what the model answers."""

    subject: Subject
    _removals: dict[tuple[str, str, int, bytes], Removal] = field(default_factory=dict)
    _found: dict[tuple[str, str, int, bytes], float] = field(default_factory=dict)

    def add(self, case: Case, gone: Bool, how: str) -> None:
        """Ask for one."""
        if gone.any():
            self._removals.setdefault(_key(case, gone, how), Removal(case, gone, how))

    def run(self) -> None:
        """Run the model on all of them."""
        if self._removals:
            logits = answers(self.subject, list(self._removals.values()))
            targets = [removal.case.target for removal in self._removals.values()]
            logs = log_probabilities(logits, targets, self.subject.head)
            self._found = dict(zip(self._removals, logs.tolist(), strict=True))

    def log_probability(self, case: Case, gone: Bool | None = None, how: str = "") -> float:
        """log p, or a regression's value, with content removed; of the document itself, with none."""
        if gone is None or not gone.any():
            return float(log_probabilities(case.logits[None], [case.target], self.subject.head)[0])
        return self._found[_key(case, gone, how)]

    def probability(self, case: Case, gone: Bool | None = None, how: str = "", spread: float = 1.0) -> float:
        """p, or a regression's value over its spread."""
        found = self.log_probability(case, gone, how)
        return found / spread if self.subject.head == "regression" else math.exp(found)


def windows(
    cases: Sequence[Case], scores: Sequence[Mapping[str, Float64]]
) -> Iterator[tuple[Sequence[Case], Sequence[Mapping[str, Float64]]]]:
    """A few documents at a time, with their scores."""
    for first in range(0, len(cases), WINDOW):
        yield cases[first : first + WINDOW], scores[first : first + WINDOW]


def ranked(scores: Float64, content: Bool) -> npt.NDArray[np.intp]:
    """Positions of content tokens, highest score first, ties by position."""
    places = np.flatnonzero(content)
    return places[np.argsort(-scores[places], kind="stable")]


def count(share: float, size: int) -> int:
    """How many of `size` are a share of them: rounded half up, at least one if the share is not 0."""
    rounded = math.floor(share * size + 0.5 + 1e-9)  # 0.29 · 50 is a little less than 14.5 in binary
    return min(size, max(rounded, 1 if share > 0 else 0))


def first(order: npt.NDArray[np.intp], size: int, length: int) -> Bool:
    """(length,) true at the first `size` positions of an order."""
    top = np.zeros(length, dtype=np.bool_)
    top[order[:size]] = True
    return top


def _key(case: Case, gone: Bool, how: str) -> tuple[str, str, int, bytes]:
    return case.document.key, how, case.target, np.packbits(gone).tobytes()


def _usable(case: Case, scores: Float64) -> bool:
    return bool(np.isfinite(scores[case.content]).all())


def _tops(case: Case, scores: Iterable[Float64], shares: Sequence[float]) -> Iterator[Bool]:
    for own in scores:
        if _usable(case, own):
            order = ranked(own, case.content)
            sizes = dict.fromkeys(count(share, len(order)) for share in shares)
            yield from (first(order, size, len(own)) for size in sizes)


def _of_method(
    asked: Asked,
    case: Case,
    method: str,
    scores: Float64,
    how: str,
    shares: Sequence[float],
    spread: float,
) -> Iterator[Value]:
    regression = asked.subject.head == "regression"
    names = ["comprehensiveness", "sufficiency", *([] if regression else ["log_ratio"])]

    def at(share: float) -> list[float]:
        if not _usable(case, scores):
            return [math.nan] * len(names)
        order = ranked(scores, case.content)
        top = first(order, count(share, len(order)), len(scores))
        before = asked.probability(case, spread=spread)
        found = [before - asked.probability(case, gone, how, spread) for gone in (top, case.content & ~top)]
        if not regression:
            found.append(asked.log_probability(case, top, how) - asked.log_probability(case))
        return found

    own, eraser = ([at(share) for share in chosen] for chosen in (shares, ERASER_SHARES))
    for place, name in enumerate(names):
        values = [row[place] for row in own]
        yield Value(method, name, float(np.mean(values)), how)
        for share, value in zip(shares, values, strict=True):
            yield Value(method, name, value, how, share)
        if name != "log_ratio":
            yield Value(method, f"{name}_eraser", float(np.mean([row[place] for row in eraser])), how)


def _curve(
    asked: Asked, case: Case, method: str, sign: str, scores: Float64, how: str, spread: float
) -> Iterator[Value]:
    order = ranked(scores, case.content)
    curve = [math.nan] * len(CURVE_SHARES)
    if _usable(case, scores):
        tops = [first(order, count(share, len(order)), len(scores)) for share in CURVE_SHARES]
        curve = [asked.probability(case, top, how, spread) for top in tops]
    area = float(np.mean(np.add(curve[1:], curve[:-1]) / 2))  # the steps are equal: the width cancels
    yield Value(method, f"auc_{sign}", area, how)
    for share, value in zip(CURVE_SHARES, curve, strict=True):
        yield Value(method, f"curve_{sign}", value, how, share)
