"""Does an explanation follow what context does to a word? Pairs of texts with known answers.

A pair is a text, a contrast in which one word stands in another context, and that word. Both are explained for the
class that the model predicts for the plain text; s is the word's score, summed over its tokens.

    context_sensitivity  (s_plain − s_contrast) / (|s_plain| + |s_contrast|), from −1 to 1; 0 if both are 0. A word that
                         speaks for the class in the one and against it in the other has 1. Larger is better.
    context_agreement    1 if s changes in the direction in which the explained output changes, else 0. The known answer
                         is that it changes: counted only where the class's probability does by 0.2 or more, else NaN.
                         Larger is better.
    context_control      for pairs in which the context changes and the word's meaning does not: the absolute value of
                         what context_sensitivity would be. Smaller is better.

The generated pairs (`sentiment`) are English sentences on films and the like: an adjective said, and denied in one of
five ways; and, as controls, said again in a longer sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from calig.attribution.quadrature import Float64
from calig.config.schema import CorpusConfig
from calig.corpus.files import open_files
from calig.errors import InputError
from calig.evaluation.outputs import log_probabilities
from calig.evaluation.sanity import Score
from calig.evaluation.subject import Case, Subject
from calig.evaluation.values import Value
from calig.records import Bool, Document, document_key

SENTIMENT = "sentiment"
COLUMNS = ("text", "contrast", "word")
DECIDED = 0.2
"""The least change of probability that decides which way a score must change."""

_SUBJECTS = ("film", "play")
_ADJECTIVES = (
    *("good", "great", "brilliant", "funny", "clever"),
    *("bad", "terrible", "dull", "boring", "stupid"),
)
_DENIALS = (
    "The {} was not {}.",
    "The {} was never {}.",
    "The {} was hardly {}.",
    "The {} was far from {}.",
    "The {} was anything but {}.",
)
_CONTROLS = (
    "The {}, which we saw in May, was {}.",
    "The {} that they put on last week was {}.",
    "As we said to everyone at home, the {} was {}.",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A text, a contrast, and the word in both; `control`: the contrast leaves the word's meaning as it is."""

    text: str
    contrast: str
    word: str
    control: bool = False


def pairs(kind: str) -> list[Pair]:
    """Pairs of a kind: `sentiment`, generated here, or the path of a CSV, JSONL or Parquet file of your own.

    A file has the columns text, contrast and word; the word must be in both texts, as a whole word.

    Raises
    ------
    InputError
        The file cannot be read, lacks a column, has no rows, or a row whose word is not in both texts.
    """
    if kind == SENTIMENT:
        return _sentiment()
    source = open_files(CorpusConfig(path=kind))
    for file, schema in source.schemas:
        for name in COLUMNS:
            if name not in schema.names:
                raise InputError(
                    f"{file} has no column {name!r}; context pairs have the columns {', '.join(COLUMNS)}"
                )
    found = []
    for batch in source.read(pa.schema([(name, pa.string()) for name in COLUMNS])):
        for row, own in enumerate(batch.table.select(COLUMNS).to_pylist(), start=batch.row):
            pair = Pair(own["text"] or "", own["contrast"] or "", own["word"] or "")
            for name, text in (("text", pair.text), ("contrast", pair.contrast)):
                if not places(pair.word, text):
                    raise InputError(
                        f"{batch.file}, row {row}: the word {pair.word!r} is not in its {name}, as a whole word in the "
                        "same case; correct one of them"
                    )
            found.append(pair)
    if not found:
        raise InputError(f"{kind} has no rows: give pairs of texts, or use {SENTIMENT}")
    return found


def context(subject: Subject, pairs: Sequence[Pair], score: Score) -> list[list[Value]]:
    """What context does to words, according to each method; per pair. A text of several pairs is explained once.

    Nothing for a pair one of whose texts cannot be explained, or is cut off before the word. A regression has no
    probability, so that no pair of it decides `context_agreement`.

    Parameters
    ----------
    subject
        A model of texts.
    pairs
        The pairs.
    score
        Runs the methods.

    Raises
    ------
    InputError
        The model reads images.
    """
    if subject.explainer.modality == "image":
        raise InputError("evaluation.context: pairs of texts are for models of texts; remove it")
    predicted = None if subject.head == "regression" else ["predicted"] * len(pairs)
    plain = subject.cases([_document(pair.text) for pair in pairs], predicted)
    aims = [case.target if isinstance(case, Case) else 0 for case in plain]
    contrast = subject.cases([_document(pair.contrast) for pair in pairs], aims)
    usable = [
        (i, one, other)
        for i, (pair, one, other) in enumerate(zip(pairs, plain, contrast, strict=True))
        if isinstance(one, Case) and isinstance(other, Case)
        if _tokens(pair.word, one).any() and _tokens(pair.word, other).any()
    ]
    asked = {_case_key(case): case for _, one, other in usable for case in (one, other)}
    scores = dict(zip(asked, score(subject, list(asked.values())), strict=True)) if asked else {}
    found: list[list[Value]] = [[] for _ in pairs]
    for i, one, other in usable:
        before, after = scores[_case_key(one)], scores[_case_key(other)]
        found[i] = _of_pair(subject, pairs[i], one, other, before, after)
    return found


def places(word: str, text: str) -> list[tuple[int, int]]:
    """Spans of characters where a text has a word by itself, in this case."""
    if not word.strip():
        return []
    return [match.span() for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text)]


def _sentiment() -> list[Pair]:
    return [
        Pair(f"The {noun} was {adjective}.", form.format(noun, adjective), adjective, form in _CONTROLS)
        for noun in _SUBJECTS
        for adjective in _ADJECTIVES
        for form in (*_DENIALS, *_CONTROLS)
    ]


def _case_key(case: Case) -> tuple[str, int]:
    return case.document.key, case.target


def _document(text: str) -> Document:
    return Document(document_key(text), text)


def _tokens(word: str, case: Case) -> Bool:
    """(T,) tokens of the word, wherever it stands."""
    starts, ends = case.encoded.char_spans.T
    found = np.zeros(len(case.encoded), dtype=np.bool_)
    for start, end in places(word, case.document.text):
        found |= case.content & (starts < end) & (ends > start)
    return found


def _of_pair(
    subject: Subject,
    pair: Pair,
    plain: Case,
    contrast: Case,
    before: Mapping[str, Float64],
    after: Mapping[str, Float64],
) -> list[Value]:
    logits = np.stack([plain.logits, contrast.logits])
    targets = [plain.target] * 2
    outputs = subject.explained(torch.from_numpy(logits), torch.tensor(targets)).tolist()
    decided = False
    if subject.head != "regression":
        probabilities = np.exp(log_probabilities(logits, targets, subject.head))
        decided = abs(probabilities[1] - probabilities[0]) >= DECIDED
    direction = np.sign(outputs[1] - outputs[0])
    values = []
    for method in before:
        one = float(before[method][_tokens(pair.word, plain)].sum())
        other = float(after[method][_tokens(pair.word, contrast)].sum())
        size = abs(one) + abs(other)
        change = (one - other) / size if size else 0.0
        if pair.control:
            values.append(Value(method, "context_control", abs(change)))
            continue
        agrees = (
            float(np.sign(other - one) == direction) if decided and not np.isnan(change) else float("nan")
        )
        values.append(Value(method, "context_sensitivity", change))
        values.append(Value(method, "context_agreement", agrees))
    return values
