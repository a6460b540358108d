"""Words as a reader would cut them, written down; and what holds of every text."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calig.words import boundaries, rule, segmenter, word_spans
from tests.material.tiers import extended


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a good film, never a bad film", "a good film , never a bad film"),
        ("don't isn’t n't it's l'homme O'Neill", "don't isn’t n't it's l'homme O'Neill"),
        ("well-known 3.5 1,000.50 50% $3", "well - known 3.5 1,000.50 50 % $ 3"),
        ("me@x.org #tag C++ U.S.A. ...", "me @ x.org # tag C + + U.S.A . . . ."),
        ("Größe naïve cafe\u0301 привет שלום مرحبا", "Größe naïve cafe\u0301 привет שלום مرحبا"),
        ("한국어 영화는 좋다", "한국어 영화는 좋다"),
        ("a\tb\nc\u00a0d\u3000e\x1cf\u2028g\u0085h", "a b c d e f g h"),
        ("10\u202f000", "10 000"),  # U+202F is white space, though UAX #29 keeps numbers together across it
        ("x\x00y \u200bz", "x \x00 y \u200b z"),
        ("👨\u200d👩\u200d👧🇩🇪🇫🇷👍🏽!", "👨\u200d👩\u200d👧 🇩🇪 🇫🇷 👍🏽 !"),
        (" \u0301a", "\u0301 a"),  # a mark on white space
        ("", ""),
        (" \n", ""),
    ],
)
def test_words_end_at_white_space_and_where_unicode_says(text: str, expected: str) -> None:
    assert words(text) == expected.split(" " if expected else None)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundaries, "segmenter", lambda: None)
    boundaries._remembered.cache_clear()


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我用AI写", "我 用 AI 写"),
        ("カメラが好き。", "カ メ ラ が 好 き 。"),
        ("か\u3099ภาษาง่าย", "か\u3099 ภ า ษ า ง่ า ย"),
        ("ភាសា 字\ufe00x", "ភា សា 字\ufe00 x"),
    ],
)
def test_scripts_without_spaces_fall_to_grapheme_clusters(text: str, expected: str) -> None:
    assert words(text) == expected.split()
    assert rule() == "uax29"
    boundaries._remembered.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我们在北京大学学习", "我们 在 北京 大学 学习"),
        ("カメラが好きです。", "カメラ が 好き です 。"),
        ("ภาษาไทยง่ายAI", "ภาษา ไทย ง่าย AI"),
        ("👍🏽𠀀字 don't", "👍🏽 𠀀 字 don't"),
    ],
)
def test_icu_cuts_scripts_without_spaces_and_nothing_else(text: str, expected: str) -> None:
    icu = pytest.importorskip("icu4py", reason="needs calig[segment]")
    boundaries._remembered.cache_clear()
    assert words(text) == expected.split()
    assert rule() == f"uax29+icu-{icu.icu_version}" == f"uax29+{segmenter()}"


TEXTS = st.text(
    st.one_of(
        st.sampled_from(" \n'’.,-aB1é\u0301\u200b\u200d\x00字カกः🇩👍🏽\u202f\u00ad"),
        st.characters(exclude_categories=("Cs",)),
    ),
    max_size=60,
)


def check(text: str) -> None:
    spans = list(word_spans(text))
    assert "".join(text[start:end] for start, end in spans) == "".join(text.split())
    assert not any(text[start:end].split() != [text[start:end]] for start, end in spans)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_words_are_all_of_the_text_but_white_space(text: str) -> None:
    check(text)


@extended("twenty thousand texts")
@settings(max_examples=20_000, deadline=None)
@given(TEXTS)
def test_words_are_all_of_every_text_but_white_space(text: str) -> None:
    check(text)
