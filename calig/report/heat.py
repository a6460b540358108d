"""From a document's tokens to the words a reader sees: one unit per word, the text between them kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from markupsafe import Markup

from calig.report.model import Heat

BLANK = "␣"
"""Stands for a token in no word: white space."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_DIRECTIONS = {
    0x061C: "⟨ALM⟩", 0x200E: "⟨LRM⟩", 0x200F: "⟨RLM⟩",
    0x202A: "⟨LRE⟩", 0x202B: "⟨RLE⟩", 0x202C: "⟨PDF⟩", 0x202D: "⟨LRO⟩", 0x202E: "⟨RLO⟩",
    0x2066: "⟨LRI⟩", 0x2067: "⟨RLI⟩", 0x2068: "⟨FSI⟩", 0x2069: "⟨PDI⟩",
}  # fmt: skip
"""The controls of the text's direction, by their names in Unicode (UAX #9)."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A row of the warehouse's `tokens`: character span in its text, layer-wise IG in logits per depth."""

    token: str
    word_id: int
    start: int
    end: int
    special: bool
    score: float
    layer_ig: Sequence[float]
    segment: int | None = 0


def visible(text: str) -> str:
    """The text with control characters, which a page cannot hold, shown as U+FFFD, and those of direction by name.

    A control of the text's direction moves what stands around it, and one that is invisible hides that it does.
    """
    return _CONTROL.sub("�", text).translate(_DIRECTIONS)


def clip(text: str, limit: int) -> str:
    """The text, cut to `limit` characters with an ellipsis if it is longer."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def isolated(text: str, limit: int) -> Markup:
    """A name within a sentence: cut, and apart from it, so that a name from right to left moves no word around it."""
    return Markup("<bdi>{}</bdi>").format(visible(clip(text, limit)))


def segment(text: str, tokens: Sequence[TokenRow], pair: str | None = None) -> Heat:
    """Join the tokens of each word, and keep the text around them; `pair` is the second text of a pair.

    Tokens of one word that follow each other are summed. A token in no word is a unit of its own, shown as `␣`. A unit
    without characters of its own (bytes of a character already shown, of tables of before words were found in the
    text) adds to the unit before it, so that every depth still sums to the same.

    Raises
    ------
    ValueError
        If there are no tokens.
    """
    if not tokens:
        raise ValueError("a document without tokens cannot be shown")
    gaps: list[str] = []
    units: list[str] = []
    special: list[bool] = []
    word_ids: list[int] = []
    values: list[list[float]] = []
    scores: list[float] = []
    cursor = 0
    second: int | None = None
    tail = ""
    numbered = enumerate(tokens)
    for _, group in groupby(numbered, key=lambda item: (item[1].special, item[1].word_id, _alone(*item))):
        members = [token for _, token in group]
        column = [float(sum(depth)) for depth in zip(*(token.layer_ig for token in members), strict=True)]
        score = float(sum(token.score for token in members))
        if second is None and pair is not None and members[0].segment == 1:
            second, tail, text, cursor = len(units), text[cursor:], pair, 0
        start, end, shown = _span(text, members, cursor)
        apart = members[0].special or members[0].word_id < 0
        if not apart and end <= start and units and second != len(units):
            values[-1] = [a + b for a, b in zip(values[-1], column, strict=True)]
            scores[-1] += score
            continue
        gaps.append(visible(text[cursor:start]))
        units.append(visible(shown))
        special.append(members[0].special)
        word_ids.append(members[0].word_id)
        values.append(column)
        scores.append(score)
        cursor = max(cursor, end)
    if second is None and pair is not None:  # it has no token
        second, tail, text, cursor = len(units), text[cursor:], pair, 0
    gaps.append(visible(text[cursor:]))
    return Heat(
        tuple(gaps),
        tuple(units),
        np.asarray(special),
        np.asarray(word_ids, dtype=np.int64),
        np.asarray(values, dtype=np.float64).T,
        np.asarray(scores, dtype=np.float64),
        second,
        visible(tail),
    )


def _alone(index: int, token: TokenRow) -> int:
    """A group key that keeps tokens without a word (special ones, or a tokenizer without words) apart."""
    return index if token.special or token.word_id < 0 else -1


def _span(text: str, members: Sequence[TokenRow], cursor: int) -> tuple[int, int, str]:
    """Start and end of a unit in the text from `cursor` on, without spaces at its edges; and what to show."""
    if members[0].special:
        return cursor, cursor, members[0].token
    start = min(max(cursor, min(token.start for token in members)), len(text))
    end = min(max(token.end for token in members), len(text))
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if members[0].word_id < 0 and start >= end:
        return cursor, cursor, BLANK
    return start, end, text[start:end]


def window(heat: Heat, units: int, characters: int) -> tuple[Heat, tuple[int, int, int] | None]:
    """Cut a long document to the stretch of `units` units with most relevance; special tokens stay.

    Returns
    -------
    The heat to show, long words and gaps clipped to `characters`, and (first word, last word, words), counted
    from 1, if something was cut.
    """
    content = np.flatnonzero(~heat.special)
    if len(content) <= units:
        return _clipped(heat, np.arange(len(heat.units)), characters), None
    mass = np.abs(heat.scores[content])
    sums = np.convolve(mass, np.ones(units), mode="valid")
    first = int(np.argmax(sums))
    kept = content[first : first + units]
    order = np.sort(np.concatenate([kept, np.flatnonzero(heat.special)]))
    return _clipped(heat, order, characters), (first + 1, first + units, len(content))


def _clipped(heat: Heat, order: np.ndarray, characters: int) -> Heat:
    gaps: list[str] = []
    previous = -1
    for index in order:
        cut = index != previous + 1
        gaps.append(" … " if cut else clip(heat.gaps[index], characters))
        previous = int(index)
    cut = previous != len(heat.units) - 1
    gaps.append(" …" if cut else clip(heat.gaps[-1], characters))
    return Heat(
        tuple(gaps),
        tuple(clip(heat.units[index], characters) for index in order),
        heat.special[order],
        heat.word_ids[order],
        heat.layer_ig[:, order],
        heat.scores[order],
        None if heat.second is None else int((order < heat.second).sum()),
        clip(heat.tail, characters),
    )
