"""Does an explanation name the words that people name? Agreement with human rationales.

A word's score is the sum of its tokens'. Words are `Case.units`; one is in the rationale if a token of it overlaps a
marked span of characters. Of W words the top ⌊share·W + ½⌋, at least one, are predicted, where the share is the mean
share of words in the rationales of the evaluated corpus (ERASER: as many as rationales are long on average).

    token_f1  F1 of the predicted words against the rationale's;
    auprc     average precision of the words' scores: Σ_n (R_n − R_{n−1})·P_n over thresholds, ties together;
    iou_f1    F1 of predicted spans: one counts as right if it overlaps a span of the rationale with an intersection
              over union of 0.5 or more; spans are runs of words.

Per document, so that intervals can be had; ERASER averages precision and recall over the corpus before it takes F1.

References
----------
J. DeYoung et al., *ERASER: A Benchmark to Evaluate Rationalized NLP Models*, ACL 2020, section 4.1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from calig.attribution.quadrature import Float64
from calig.errors import InputError
from calig.evaluation.faithfulness import count
from calig.evaluation.subject import Case
from calig.evaluation.values import Value
from calig.records import Bool

_IOU = 0.5
_FORMATS = (
    "give spans of characters ([[start, end], …] or [{start, end}, …]), indices of characters, the marked strings in "
    "order, or 0 or 1 for each word between spaces"
)


def spans_of(value: Any, text: str) -> list[tuple[int, int]]:
    """Marked spans [start, end) of characters, from what a corpus's rationale column holds.

    - pairs [start, end] or mappings with `start` and `end`: spans, as they are;
    - strings: each the first place in the text where it occurs after the one before it ends;
    - 0s and 1s, as many as the text has words between spaces: those words that have a 1;
    - integers that rise: indices of characters.

    A string is read as JSON (CSV files have nothing else). Nothing, or an empty list, is no span.

    Raises
    ------
    InputError
        It is none of these, or could be both of the last two, or does not fit the text.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except json.JSONDecodeError as error:
            raise InputError(f"corpus.rationale: {_short(value)} is no list; {_FORMATS}") from error
    if value is None:
        return []
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise InputError(f"corpus.rationale: {_short(value)} is no list; {_FORMATS}")
    if all(isinstance(item, str) for item in value):
        return _of_strings(value, text)
    if all(_is_integer(item) for item in value):
        return _of_integers([int(item) for item in value], text)
    return [_pair(item, text) for item in value]


def rationale(value: Any, case: Case) -> Bool | None:
    """(W,) the words of a document that are marked, from what the corpus's rationale column holds, as in `spans_of`.

    None if none is: where nobody marked anything, or only what was cut off. Of a pair, the first text is marked.

    Raises
    ------
    InputError
        The value cannot be read.
    """
    spans = spans_of(value, case.document.text)
    units = case.units
    marked = np.zeros(int(units.max(initial=-1)) + 1, dtype=np.bool_)
    starts, ends = case.encoded.char_spans.T
    own = case.content & (case.encoded.segments == 0)
    for start, end in spans:
        marked[units[own & (starts < end) & (ends > start)]] = True
    return marked if marked.any() else None


def plausibility(case: Case, scores: Mapping[str, Float64], share: float) -> list[Value]:
    """Agreement of each method with the case's rationale; nothing where there is none.

    Parameters
    ----------
    case
        A document of T tokens and W words.
    scores
        Each method's signed scores (T,); NaN comes of those that are not finite.
    share
        The mean share of words in the rationales of the evaluated corpus.
    """
    gold = case.rationale
    if gold is None or not gold.any():
        return []
    values: list[Value] = []
    for method, own in scores.items():
        words: Float64 = np.bincount(case.units[case.content], own[case.content], len(gold)).astype(
            np.float64
        )
        found = [np.nan] * 3
        if np.isfinite(words).all():
            predicted = np.zeros(len(gold), dtype=np.bool_)
            predicted[np.argsort(-words, kind="stable")[: count(share, len(gold))]] = True
            found = [token_f1(predicted, gold), average_precision(words, gold), iou_f1(predicted, gold)]
        names = ("token_f1", "auprc", "iou_f1")
        values += [Value(method, name, float(number)) for name, number in zip(names, found, strict=True)]
    return values


def rationale_share(cases: Sequence[Case]) -> float:
    """Mean share of words that are in the rationale, over documents that have one; NaN if none has."""
    shares = [float(case.rationale.mean()) for case in cases if case.rationale is not None]
    return float(np.mean(shares)) if shares else float("nan")


def token_f1(predicted: Bool, gold: Bool) -> float:
    """F1 of predicted words (W,) against the rationale's."""
    return 2 * int((predicted & gold).sum()) / (int(predicted.sum()) + int(gold.sum()))


def average_precision(scores: Float64, gold: Bool) -> float:
    """Area under the precision–recall curve of scores (W,), as steps: Σ_n (R_n − R_{n−1})·P_n."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(gold[order])
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def iou_f1(predicted: Bool, gold: Bool) -> float:
    """F1 of predicted runs of words against the rationale's, right where their IOU is 0.5 or more."""
    ours, theirs = _runs(predicted), _runs(gold)
    right = sum(max((_iou(run, other) for other in theirs), default=0.0) >= _IOU for run in ours)
    return 2 * right / (len(ours) + len(theirs))


def _runs(marked: Bool) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(np.int8), [0]])))
    pairs: npt.NDArray[np.intp] = edges.reshape(-1, 2)
    return [(int(start), int(end)) for start, end in pairs]


def _iou(one: tuple[int, int], other: tuple[int, int]) -> float:
    shared = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    return shared / (one[1] - one[0] + other[1] - other[0] - shared)


def _of_strings(value: Sequence[str], text: str) -> list[tuple[int, int]]:
    spans, place = [], 0
    for item in value:
        found = text.find(item, place) if item else -1
        if found < 0:
            after = f" after character {place}" if place else ""
            raise InputError(
                f"corpus.rationale: {_short(item)} is not in the text{after}; give the marked strings as they are "
                "written there, in their order"
            )
        place = found + len(item)
        spans.append((found, place))
    return spans


def _of_integers(value: Sequence[int], text: str) -> list[tuple[int, int]]:
    words = _words(text)
    flags = len(value) == len(words) and set(value) <= {0, 1}
    rises = all(one < other for one, other in pairwise(value))
    if flags and rises and any(value):
        raise InputError(
            f"corpus.rationale: {_short(value)} may be a 0 or 1 for each word, or indices of characters; give spans: "
            "[[start, end], …]"
        )
    if flags:
        return [span for span, marked in zip(words, value, strict=True) if marked]
    if not rises:
        raise InputError(
            f"corpus.rationale: {_short(value)} are neither indices of characters, which rise, nor a 0 or 1 for each "
            f"of the text's {len(words)} words; {_FORMATS}"
        )
    return [_pair((index, index + 1), text) for index in value]


def _words(text: str) -> list[tuple[int, int]]:
    """Spans of what stands between white space."""
    spans, place = [], 0
    for word in text.split():
        start = text.index(word, place)
        place = start + len(word)
        spans.append((start, place))
    return spans


def _pair(item: Any, text: str) -> tuple[int, int]:
    if isinstance(item, Mapping):
        item = [item.get("start"), item.get("end")]
    if not (isinstance(item, list | tuple) and len(item) == 2 and all(_is_integer(end) for end in item)):
        raise InputError(f"corpus.rationale: {_short(item)} is no span; {_FORMATS}")
    start, end = int(item[0]), int(item[1])
    if not 0 <= start < end <= len(text):
        raise InputError(
            f"corpus.rationale: characters {start} to {end} are no part of the text, which has {len(text)}; count "
            "from 0, in characters, the end not included"
        )
    return start, end


def _is_integer(item: Any) -> bool:
    return isinstance(item, int | np.integer) and not isinstance(item, bool)


def _short(value: Any) -> str:
    written = repr(value)
    return written if len(written) <= 60 else written[:57] + "…"
