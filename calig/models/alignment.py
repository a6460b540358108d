"""Tokens of tokenizers that are written in Python, found in the text again: these give no character offsets.

A token is compared with the text without case, accents and white space, and without the mark that says that a word goes
on or ends (`@@`, `##`, `</w>`, `▁`, `Ġ`). A token that stands for what the tokenizer does not know, or has replaced,
takes some characters of one word. The tokens of a text must cover all that is seen of it, in one way only: where there
is none, or more than one, the document is not explained.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from calig.errors import DocumentError

_BEFORE, _AFTER = ("##", "▁", "Ġ"), ("@@", "</w>")


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """One text or pair as T tokens, under the names that `tokenizers.Encoding` has for them."""

    ids: list[int]
    type_ids: list[int]
    tokens: list[str]
    special_tokens_mask: list[int]
    sequence_ids: list[int | None]
    offsets: list[tuple[int, int]]
    overflowing: bool


def encode(tokenizer: Any, texts: Sequence[str], max_length: int | None) -> Encoding:
    """Encode a text, or a pair of texts, as the tokenizer does; with `max_length`, the longest is cut first.

    Raises
    ------
    DocumentError
        Its tokens cannot be found in it.
    """
    pieces = [tokenizer.tokenize(text) for text in texts]
    spans = [find(text, own, tokenizer.unk_token) for text, own in zip(texts, pieces, strict=True)]
    places = [(sequence, i) for sequence, own in enumerate(pieces) for i in range(len(own))]
    marks = [
        -1 - i for i in range(len(places))
    ]  # numbers that are no ids show where the tokenizer puts each token
    first = len(pieces[0])
    options: dict[str, Any] = {
        "truncation": "longest_first" if max_length is not None else False,
        "max_length": max_length,
        "return_token_type_ids": True,
        "verbose": False,
    }
    pair = {"pair_ids": marks[first:]} if len(texts) > 1 else {}
    marked = tokenizer.prepare_for_model(marks[:first], **pair, **options)
    ids, tokens, special, sequences, offsets = [], [], [], [], []
    for mark in marked["input_ids"]:
        sequence, i = places[-1 - mark] if mark < 0 else (None, 0)
        known = tokenizer.convert_tokens_to_ids(pieces[sequence][i]) if sequence is not None else mark
        ids.append(int(known))
        tokens.append(pieces[sequence][i] if sequence is not None else tokenizer.convert_ids_to_tokens(mark))
        special.append(int(sequence is None))
        sequences.append(sequence)
        offsets.append((0, 0) if sequence is None else spans[sequence][i])
    if ids != list(tokenizer(*texts, **options)["input_ids"]):
        raise DocumentError("unaligned", "the tokenizer gives other tokens for it than for its pieces")
    cut = special.count(0) < len(places)
    return Encoding(ids, list(marked["token_type_ids"]), tokens, special, sequences, offsets, cut)


def find(text: str, pieces: Sequence[str], unknown: str | None) -> list[tuple[int, int]]:
    """(start, end) in the text of each of its tokens, in order.

    Raises
    ------
    DocumentError
        They do not cover the text, or do so in more than one way.
    """
    folded, sources = _folded(text)
    words = _word_ends(text, sources)
    ways: dict[int, int] = {0: 1}
    steps: list[dict[int, int]] = []
    for piece in pieces:
        came: dict[int, int] = {}
        reached: dict[int, int] = {}
        surfaces = _surfaces(piece)
        anything = piece == unknown or not any(surface in folded for surface in surfaces)
        for start, count in ways.items():
            ends = {start + len(surface) for surface in surfaces if folded.startswith(surface, start)}
            if anything:
                ends.update(range(start + 1, words[start] + 1 if start < len(words) else 0))
            for end in ends:
                reached[end] = min(2, reached.get(end, 0) + count)
                came[end] = start
        ways = reached
        steps.append(came)
    if ways.get(len(folded), 0) != 1:
        how = "in more than one way" if len(folded) in ways else "as the tokenizer gives them"
        raise DocumentError("unaligned", f"its tokens cannot be found in it {how}, and have no place there")
    spans: list[tuple[int, int]] = []
    end = len(folded)
    for came in reversed(steps):
        start = came[end]
        spans.append(_span(text, sources, start, end))
        end = start
    return spans[::-1]


def _folded(text: str) -> tuple[str, list[int]]:
    """The text without case, accents and white space, and the place in the text of each of its characters."""
    folded, sources = [], []
    for place, character in enumerate(text):
        for one in _fold(character):
            folded.append(one)
            sources.append(place)
    return "".join(folded), sources


def _fold(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text)
    kept = (c for c in plain if not (c.isspace() or unicodedata.category(c) in ("Mn", "Cf", "Cc")))
    return "".join(kept).casefold()


def _surfaces(piece: str) -> set[str]:
    """What a token may look like in the text: as it is, or without its mark."""
    found = {piece}
    found |= {piece.removeprefix(mark) for mark in _BEFORE} | {piece.removesuffix(mark) for mark in _AFTER}
    return {_fold(one) for one in found}


def _word_ends(text: str, sources: Sequence[int]) -> list[int]:
    """For each folded character, where the folded characters of its word end: what white space parts."""
    ends = [len(sources)] * len(sources)
    for i in range(len(sources) - 2, -1, -1):
        between = text[sources[i] : sources[i + 1]]
        ends[i] = i + 1 if any(c.isspace() for c in between) else ends[i + 1]
    return ends


def _span(text: str, sources: Sequence[int], start: int, end: int) -> tuple[int, int]:
    """Where folded characters from `start` to `end` are in the text, with the accents that follow them."""
    if start == end:
        place = sources[start] if start < len(sources) else len(text)
        return place, place
    stop = sources[end - 1] + 1
    while stop < len(text) and not text[stop].isspace() and not _fold(text[stop]):
        stop += 1
    return sources[start], stop
