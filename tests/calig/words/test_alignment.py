"""Tokens given to words: shares written down."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from calig.words import WordTokens, align


def one(text: str, spans: list[tuple[int, int]], cut: bool = False) -> WordTokens:
    return align(
        [text],
        np.zeros(1, int),
        np.zeros(len(spans), int),
        np.array(spans, int).reshape(-1, 2),
        np.array([cut]),
    )


def shares(text: str, found: WordTokens) -> list[tuple[int, str, Fraction]]:
    return [
        (int(token), text[start:end], Fraction(int(mine), int(whole)))
        for token, start, end, mine, whole in zip(
            found.token, found.start, found.end, found.characters, found.token_characters, strict=True
        )
    ]


@pytest.mark.parametrize(
    ("text", "spans", "expected"),
    [
        ("a film", [(0, 1), (2, 4), (4, 6)], [(0, "a", 1), (1, "film", 1), (2, "film", 1)]),
        (
            "New York, x",
            [(0, 9), (9, 11)],
            [(0, "New", "3/8"), (0, "York", "4/8"), (0, ",", "1/8"), (1, "x", 1)],
        ),
        ("don't", [(0, 3), (3, 5)], [(0, "don't", 1), (1, "don't", 1)]),
        (
            "a b",
            [(0, 1), (1, 2), (2, 3)],
            [(0, "a", 1), (1, "b", 1), (2, "b", 1)],
        ),  # a single space leads its word
        ("a\nb", [(0, 1), (1, 2), (2, 3)], [(0, "a", 1), (2, "b", 1)]),
        ("a  b", [(0, 1), (1, 3), (3, 4)], [(0, "a", 1), (2, "b", 1)]),
        ("a ", [(0, 1), (1, 2)], [(0, "a", 1)]),
        (
            "ab",
            [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)],
            [(n, "ab", 1) for n in range(5)],
        ),  # tokens of no character
        ("a b", [(0, 1), (1, 1), (2, 2), (2, 3)], [(0, "a", 1), (1, "a", 1), (2, "b", 1), (3, "b", 1)]),
        ("é", [(0, 1), (0, 1)], [(0, "é", 1), (1, "é", 1)]),  # two bytes of one character
        ("a b c", [(4, 5), (0, 1)], [(0, "c", 1), (1, "a", 1)]),  # a word without a token is none
        ("ab", [(0, 9)], [(0, "ab", 1)]),  # an offset beyond the text
        ("", [(0, 0)], []),
        ("a", [], []),
    ],
)
def test_a_token_gives_each_word_its_share_by_characters(
    text: str, spans: list[tuple[int, int]], expected: list[tuple[int, str, str | int]]
) -> None:
    assert shares(text, one(text, spans)) == [
        (token, word, Fraction(share)) for token, word, share in expected
    ]


def test_words_are_numbered_by_their_place_in_the_text() -> None:
    found = one("a b c", [(4, 5), (0, 3)])
    assert found.word.tolist() == [2, 0, 1]
    assert found.main.tolist() == [True, True, False]
    assert one("a bcd", [(0, 5)]).main.tolist() == [False, True]


@pytest.mark.parametrize(("cut", "word"), [(True, "unbel"), (False, "unbelievable")])
def test_of_a_cut_text_a_word_is_what_was_read_of_it(cut: bool, word: str) -> None:
    text = "an unbelievable film"
    found = one(text, [(0, 2), (3, 8)], cut)
    assert [name for _, name, _ in shares(text, found)] == ["an", word]


def test_texts_of_one_document_share_its_numbers_and_no_word() -> None:
    texts = ["a b", "b", "", "c d"]
    text_of = np.array([-1, 0, 0, 1, -1, 3, 3])
    spans = np.array([(0, 0), (0, 1), (2, 3), (0, 1), (0, 0), (0, 1), (2, 3)])
    found = align(texts, np.array([0, 0, 1, 1]), text_of, spans, np.zeros(4, bool))
    assert found.token.tolist() == [1, 2, 3, 5, 6]
    assert found.word.tolist() == [0, 1, 2, 0, 1]
    assert found.text.tolist() == [0, 0, 1, 3, 3]
    assert found.start.tolist() == [0, 2, 0, 0, 2]
