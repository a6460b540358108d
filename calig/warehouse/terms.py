"""Where watched terms stand in a text: whole words, whatever their case, spacing and script.

A term's first and last characters decide what may adjoin it. A letter, digit, mark or punctuation sign: no letter,
digit, mark or underscore, so that `he` is not in `the`, nor `c++` in `c++11`, nor `@brand` in `me@brand.com`. A
character of a script that is written without spaces between words (Chinese, Japanese, Thai, …), or a symbol such as an
emoji: anything but a mark that belongs to it. Letters of such scripts are also no neighbours to the others: `AI` is in
`我用AI`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

UNSPACED = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai and Lao, Myanmar, Khmer
    *((0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F)),  # kana
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),  # Han
)
"""Ranges of the scripts that are written without spaces between words."""
LEVELS = 3  # characters by which terms are told apart before they are tried one by one

Place = tuple[int, int, int]


class Terms:
    """Terms to be found in texts, all at once.

    Parameters
    ----------
    terms
        Each is known by its place in this sequence.
    """

    def __init__(self, terms: Iterable[str]) -> None:
        keys: dict[str, list[int]] = {}
        for number, term in enumerate(terms):
            for key in _spellings(term):
                keys.setdefault(key, []).append(number)
        self._pattern = re.compile(f"(?=({_tree(sorted(keys, key=len, reverse=True))}))")
        self._found = {
            key: [
                (length, number) for length in range(1, len(key) + 1) for number in keys.get(key[:length], ())
            ]
            for key in keys
        }

    def find(self, text: str) -> Iterator[Place]:
        """Yield (number of a term, start, end) of every place, overlapping ones too; characters of `text`."""
        spaced = re.sub(r"\s+", " ", text)
        folded = spaced.casefold()
        same = len(folded) == len(spaced) == len(text)
        origins: Sequence[int] | None = None
        for match in self._pattern.finditer(
            folded
        ):  # the longest key there, of which the others are beginnings
            start = match.start()
            for length, number in self._found[match[1]]:
                if _bounded(folded, start, start + length):
                    if origins is None:
                        origins = range(len(text)) if same else _origins(text)
                    yield number, origins[start], origins[start + length - 1] + 1


def _spellings(term: str) -> set[str]:
    """The term as it is looked for: folded, with single spaces, with its accents composed and apart."""
    whole = " ".join(term.split())
    return {
        form.casefold() for form in (whole, *(unicodedata.normalize(name, whole) for name in ("NFC", "NFD")))
    }


def _origins(text: str) -> list[int]:
    """Per character of the text folded and with single spaces: which of the text's it comes from."""
    origins: list[int] = []
    for place, character in enumerate(text):
        if not (character.isspace() and place and text[place - 1].isspace()):
            origins += [place] * len(character.casefold())
    return origins


def _tree(keys: Sequence[str], level: int = 0) -> str:
    """An expression for the longest of these keys, which come longest first: it branches by their first characters."""
    if level == LEVELS:
        return "|".join(re.escape(key[level:]) for key in keys)
    branches = []
    for character in sorted(
        {key[level : level + 1] for key in keys}, reverse=True
    ):  # the end of a key is the last
        rest = (
            _tree([key for key in keys if key[level : level + 1] == character], level + 1)
            if character
            else ""
        )
        within = f"(?<!{_WORD}{re.escape(character)})" if level == 0 and not _alone(character) else ""
        branches.append(f"{re.escape(character)}{within}(?:{rest})" if character else "")
    return "|".join(branches)


def _bounded(text: str, start: int, end: int) -> bool:
    """Whether what stands there is no part of a larger word."""
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    if after and _marks(after):
        return False
    return not (
        (before and not _alone(text[start]) and _adjoins(before))
        or (after and not _alone(text[end - 1]) and _adjoins(after))
    )


@cache
def _alone(character: str) -> bool:
    """Whether the character is a word, or the start or end of one, without spaces around it."""
    return _unspaced(character) or unicodedata.category(character) == "So"


@cache
def _adjoins(character: str) -> bool:
    """Whether the character makes one word with its neighbour."""
    return (character.isalnum() or character == "_" or _marks(character)) and not _unspaced(character)


@cache
def _marks(character: str) -> bool:
    """Whether the character makes one with what stands before it: an accent, a vowel sign, a joiner."""
    if "\ufe00" <= character <= "\ufe0f":  # says how the one before looks
        return False
    return unicodedata.category(character) in ("Mn", "Mc", "Me") or character in "\u200c\u200d"


def _unspaced(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in UNSPACED)


_WORD = rf"[^\W{''.join(f'{chr(first)}-{chr(last)}' for first, last in UNSPACED)}]"
