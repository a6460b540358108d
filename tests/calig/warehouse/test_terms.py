"""Where terms stand: hand-picked texts of several scripts, and a slow second way to the same places."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from calig.warehouse.terms import UNSPACED, Terms


def found(text: str, *terms: str) -> list[tuple[str, str]]:
    """(term, what stands there) of every place."""
    return [(terms[number], text[start:end]) for number, start, end in Terms(terms).find(text)]


@pytest.mark.parametrize(
    ("text", "term", "places"),
    [
        ("The York of old, YORK!", "york", ["York", "YORK"]),
        ("Yorkshire, newyork", "york", []),
        ("in New  York\nand new-york", "new york", ["New  York"]),
        ("ids TT-4711, tt-4711.", "TT-4711", ["TT-4711", "tt-4711"]),
        ("xTT-4711 TT-47110 TT-4711x", "TT-4711", []),
        ("by @Brand, not me@brand.com or @brands", "@brand", ["@Brand"]),
        ("C++ or (c++), not c++11", "c++", ["C++", "c++"]),
        ("a.b axb", "a.b", ["a.b"]),
        ("they're he, the hero", "he", ["he"]),
        ("snake_case case", "case", ["case"]),
        ("Die STRASSE, die Straße", "straße", ["STRASSE", "Straße"]),
        ("die Straße", "STRASSE", ["Straße"]),
        ("ŽIŽKOV in Žižkov", "žižkov", ["ŽIŽKOV", "Žižkov"]),
        ("cafe\u0301 CAFÉ, cafe", "café", ["cafe\u0301", "CAFÉ"]),
        ("cafe\u0301 café", "cafe\u0301", ["cafe\u0301", "café"]),
        ("cafe\u0301", "cafe", []),
        ("Ὀδυσσεύς ΟΔΥΣΣΕΥΣ", "οδυσσευσ", ["ΟΔΥΣΣΕΥΣ"]),
        ("в Москве, МОСКВА", "москва", ["МОСКВА"]),
        ("हिन्दी में, हिन", "हिन", ["हिन"]),
        ("می\u200cخواهم می", "می", ["می"]),
        ("我在北京工作", "北京", ["北京"]),
        ("我用AI工作, AIs", "AI", ["AI"]),
        ("東京でテスト", "東京", ["東京"]),
        ("คนกี่คน", "คน", ["คน", "คน"]),
        ("กี ก", "ก", ["ก"]),
        ("great👍🏽 and 👍️", "👍", ["👍", "👍"]),
        ("👩\u200d💻", "👩", []),
        ("a a a", "a a", ["a a", "a a"]),
        ("İstanbul", "i", []),
        ("", "a", []),
    ],
)
def test_a_term_is_a_whole_word(text: str, term: str, places: list[str]) -> None:
    assert [place for _, place in found(text, term)] == places


def test_terms_within_terms_are_all_found() -> None:
    text = "New York City, new yorker"
    terms = ("york", "new york", "new york city", "new", "city", "York")
    assert sorted(found(text, *terms)) == [
        ("York", "York"),
        ("city", "City"),
        ("new", "New"),
        ("new", "new"),
        ("new york", "New York"),
        ("new york city", "New York City"),
        ("york", "York"),
    ]


def kind(character: str) -> str:
    """mark, unspaced, symbol, word or other."""
    if unicodedata.category(character)[0] == "M" and not "\ufe00" <= character <= "\ufe0f":
        return "mark"
    if character in "\u200c\u200d":
        return "mark"
    if any(first <= ord(character) <= last for first, last in UNSPACED):
        return "unspaced"
    if unicodedata.category(character) == "So":
        return "symbol"
    return "word" if character.isalnum() or character == "_" else "other"


def unspaced(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in UNSPACED)


def slowly(text: str, terms: tuple[str, ...]) -> set[tuple[int, int, int]]:
    """Every stretch of the text that is spelt as a term is, with nothing beside it that would make a longer word."""
    places = set()
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            first, last = text[start], text[end - 1]
            before, after = text[start - 1 : start] if start else "", text[end : end + 1]
            if first.isspace() or last.isspace() or (after and kind(after) == "mark"):
                continue
            lone_first, lone_last = (unspaced(c) or kind(c) == "symbol" for c in (first, last))
            if not lone_first and before and kind(before) in ("word", "mark") and not unspaced(before):
                continue
            if not lone_last and after and kind(after) == "word":
                continue
            spelt = " ".join(text[start:end].split()).casefold()
            for number, term in enumerate(terms):
                forms = [" ".join(term.split())]
                forms += [unicodedata.normalize(form, forms[0]) for form in ("NFC", "NFD")]
                if spelt in [form.casefold() for form in forms]:
                    places.add((number, start, end))
    return places


PIECES = st.sampled_from(
    (
        *(
            "a",
            "b",
            "A",
            "ab",
            " ",
            "  ",
            "\n",
            "+",
            "-",
            "@",
            "1",
            "_",
            "ß",
            "ss",
            "s",
            "é",
            "e\u0301",
            "İ",
            "i",
        ),
        *(
            "\u0307",
            "北",
            "京",
            "ก",
            "\u0e35",
            "👍",
            "\ufe0f",
            "\u200d",
            "ﬁ",
            "f",
            "ह",
            "\u093f",
            "ΐ",
            "ŉ",
            "n",
        ),
    )
)


@given(
    st.lists(PIECES, max_size=12).map("".join),
    st.lists(st.lists(PIECES, min_size=1, max_size=4).map("".join).filter(str.strip), min_size=1, max_size=6),
)
@example("a  ß", ["ß", "a ss"])
@example("ßa\n\n", ["a"])
def test_places_are_those_of_the_slow_way(text: str, terms: list[str]) -> None:
    places = list(Terms(terms).find(text))
    assert len(places) == len(set(places))
    assert set(places) == slowly(text, tuple(terms))


@given(st.text(max_size=30), st.text(min_size=1, max_size=3).filter(str.strip))
def test_places_are_those_of_the_slow_way_in_any_script(text: str, term: str) -> None:
    held = f"{text} {term.strip()} {text}"
    assert set(Terms([term]).find(held)) == slowly(held, (term,))


def test_a_thousand_terms_are_found_like_each_alone() -> None:
    terms = tuple(f"{a}{b}{c}" for a in "abcdefghij" for b in "abcdefghij" for c in "0123456789")
    text = " ".join((*terms[::7], "abc", "aa", "ja99"))
    assert [text[start:end] for _, start, end in Terms(terms).find(text)] == list(terms[::7])
