from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calig.report.heat import TokenRow, segment, visible, window


def row(token: str, word: int, start: int, end: int, ig: float = 1.0, special: bool = False) -> TokenRow:
    return TokenRow(token, word, start, end, special, ig / 2, [ig, -ig])


def test_sub_words_join_and_the_text_between_words_stays() -> None:
    text = "An unbelievable film!"
    tokens = [
        row("[CLS]", -1, 0, 0, special=True),
        row("an", 0, 0, 2),
        row("unb", 1, 3, 6),
        row("##elievable", 1, 6, 15),
        row("film", 2, 16, 20),
        row("!", 3, 20, 21),
        row("[SEP]", -1, 0, 0, special=True),
    ]
    heat = segment(text, tokens)
    assert heat.units == ("[CLS]", "An", "unbelievable", "film", "!", "[SEP]")
    assert heat.gaps == ("", "", " ", " ", "", "", "")
    assert heat.layer_ig[:, 2].tolist() == [2.0, -2.0]
    assert heat.special.tolist() == [True, False, False, False, False, True]


def pair_row(token: str, word: int, start: int, end: int, segment: int) -> TokenRow:
    return TokenRow(token, word, start, end, False, 0.5, [1.0, -1.0], segment)


MARK = TokenRow("[SEP]", -1, 0, 0, True, 0.1, [0.1, 0.1], None)


def test_the_second_text_of_a_pair_starts_anew() -> None:
    tokens = [
        MARK,
        pair_row("a", 0, 0, 1, 0),
        MARK,
        pair_row("b", 1, 1, 2, 1),
        pair_row("c", 2, 3, 4, 1),
        MARK,
    ]
    heat = segment("a cut", tokens, "(b c)")
    assert heat.units == ("[SEP]", "a", "[SEP]", "b", "c", "[SEP]")
    assert (heat.second, heat.tail) == (3, " cut")
    assert heat.gaps == ("", "", "", "(", " ", "", ")")


@pytest.mark.parametrize("pair", ["", "  "])
def test_a_second_text_without_tokens_comes_last(pair: str) -> None:
    heat = segment("a.", [MARK, pair_row("a", 0, 0, 1, 0), MARK, MARK], pair)
    assert (heat.second, heat.tail, heat.gaps[-1]) == (4, ".", pair)


def test_a_first_text_without_tokens_is_its_marks() -> None:
    heat = segment("", [MARK, MARK, pair_row("b", 0, 0, 1, 1), MARK], "b")
    assert (heat.second, heat.tail, heat.units[2]) == (2, "", "b")


def test_a_window_keeps_the_border_of_a_pair() -> None:
    first = [pair_row("a", i, 2 * i, 2 * i + 1, 0) for i in range(4)]
    second = [replace(pair_row("b", 4 + i, 2 * i, 2 * i + 1, 1), score=9.0) for i in range(4)]
    tokens = [MARK, *first, MARK, *second, MARK]
    heat, cut = window(segment("a a a a", tokens, "b b b b"), units=3, characters=20)
    assert cut == (5, 7, 8)
    assert heat.units == ("[SEP]", "[SEP]", "b", "b", "b", "[SEP]")
    assert (heat.second, heat.gaps[2], heat.gaps[-2]) == (2, "", " … ")


def test_spaces_inside_a_token_go_to_the_gap() -> None:
    heat = segment("one two", [row("▁one", 0, 0, 3), row("▁two", 1, 3, 7)])
    assert heat.units == ("one", "two")
    assert heat.gaps == ("", " ", "")


def test_a_token_without_characters_of_its_own_adds_to_the_unit_before() -> None:
    heat = segment("🎬 ok", [row("ð", 0, 0, 1), row("Ł", 1, 0, 1), row("ok", 2, 2, 4)])
    assert heat.units == ("🎬", "ok")
    assert heat.layer_ig[0].tolist() == [2.0, 1.0]


def test_text_the_model_did_not_read_is_the_last_gap() -> None:
    assert segment("read unread", [row("read", 0, 0, 4)]).gaps[-1] == " unread"


@given(st.text(max_size=40), st.data())
def test_nothing_of_the_text_or_its_relevance_is_lost(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=10)))
    tokens = [
        row(text[a:b], data.draw(st.integers(0, 3)) + 4 * i, a, b, float(i + 1))
        for i, (a, b) in enumerate(pairwise(cuts))
    ]
    heat = segment(text, tokens)
    joined = "".join(gap + unit for gap, unit in zip(heat.gaps, (*heat.units, ""), strict=True))
    assert joined == visible(text)
    np.testing.assert_allclose(heat.layer_ig[0].sum(), sum(token.layer_ig[0] for token in tokens))
    np.testing.assert_allclose(heat.scores.sum(), sum(token.score for token in tokens))


def test_control_characters_are_shown() -> None:
    assert visible("a\x00b\tc\nd\x1b") == "a�b\tc\nd�"


def test_no_tokens_is_an_error() -> None:
    with pytest.raises(ValueError, match="without tokens"):
        segment("text", [])


def test_a_window_takes_the_stretch_with_most_relevance_and_the_special_tokens() -> None:
    words = [f"w{i}" for i in range(50)]
    text = " ".join(words)
    tokens = [row("[CLS]", -1, 0, 0, special=True)]
    for i, word in enumerate(words):
        start = text.index(word + (" " if i < 49 else ""))
        tokens.append(row(word, i, start, start + len(word), 9.0 if i in (30, 31) else 0.1))
    tokens.append(row("[SEP]", -1, 0, 0, special=True))
    heat, cut = window(segment(text, tokens), units=5, characters=20)
    assert cut is not None
    first, last, total = cut
    assert (last - first + 1, total) == (5, 50)
    assert first <= 31 <= last
    assert first <= 32 <= last
    assert heat.units[0] == "[CLS]"
    assert heat.units[-1] == "[SEP]"
    assert heat.gaps[1].strip() == "…"
    assert heat.layer_ig.shape == (2, 7)


def test_a_short_document_is_not_cut() -> None:
    heat, cut = window(segment("one two", [row("one", 0, 0, 3), row("two", 1, 4, 7)]), units=2, characters=20)
    assert cut is None
    assert heat.units == ("one", "two")


def test_an_endless_word_is_clipped() -> None:
    heat, _ = window(segment("x" * 10_000, [row("x", 0, 0, 10_000)]), units=5, characters=20)
    assert heat.units == ("x" * 19 + "…",)


def test_a_token_in_no_word_is_a_unit_of_its_own() -> None:
    heat = segment("a\n\nb", [row("a", 0, 0, 1, 1.0), row("ĊĊ", -1, 1, 3, 2.0), row("b", 1, 3, 4, 3.0)])
    assert heat.units == ("a", "␣", "b")
    assert heat.gaps == ("", "", "\n\n", "")
    assert heat.scores.tolist() == [row("", 0, 0, 0, value).score for value in (1.0, 2.0, 3.0)]
