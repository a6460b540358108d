"""Where the words of a text start and end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache

import regex

RULE = "uax29"
"""Names the rule of this module; changed whenever it finds other words."""
INSTALL = "pip install 'calig[segment]'"

_PIECES = re.compile("\u200b|[^\\s\u200b]+")  # U+200B, zero width space: UAX #29 breaks before and after it
_BOUNDARY = regex.compile(r"(?w)\b")
_UNSPACED = regex.compile(
    r"(?:[\p{Han}\p{Hiragana}\p{Katakana}\p{WB=Katakana}\p{lb=SA}][\p{WB=Extend}\p{WB=Format}\u200d]*)+"
)
"""Runs of scripts that are written without spaces: SA are those of South East Asia."""
_CLUSTER = regex.compile(r"\X")
_CACHED = 32
"""Characters up to which a piece between white space is remembered: longer ones hardly come twice."""


@cache
def segmenter() -> str | None:
    """Name and version of the dictionary segmenter, such as `icu-78.3`; None where none is installed."""
    try:
        import icu4py
    except ImportError:
        return None
    return f"icu-{icu4py.icu_version}"


def rule() -> str:
    """What finds words here, such as `uax29` or `uax29+icu-78.3`: the same name, the same words."""
    return "+".join(filter(None, (RULE, segmenter())))


def word_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the words of a text in characters, in order.

    They do not overlap. All characters but white space (`str.isspace`) are in one.
    """
    for match in _PIECES.finditer(text):
        piece, start = match[0], match.start()
        if piece.isascii() and piece.isalnum():
            yield start, match.end()
            continue
        before = 0
        for end in _remembered(piece) if len(piece) <= _CACHED else _ends(piece):
            yield start + before, start + end
            before = end


@lru_cache(maxsize=2**16)
def _remembered(piece: str) -> tuple[int, ...]:
    return tuple(_ends(piece))


def _ends(piece: str) -> Iterator[int]:
    """Yield where each word of a piece without white space ends."""
    done = 0
    for run in _UNSPACED.finditer(piece):
        yield from _spaced(piece[done : run.start()], done)
        end = run.start()
        for word in _unspaced(run[0]):
            end += len(word)
            yield end
        done = end
    yield from _spaced(piece[done:], done)


def _spaced(part: str, start: int) -> Iterator[int]:
    return (start + found.start() for found in _BOUNDARY.finditer(part) if found.start())


def _unspaced(run: str) -> Iterator[str]:
    if segmenter() is None:
        return iter(_CLUSTER.findall(run))
    from icu4py.breakers import WordBreaker

    return iter(WordBreaker(run, "en"))  # its dictionaries follow the script, not the language
