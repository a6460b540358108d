from __future__ import annotations

import math

import pytest

from calig.report import formats


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0113, "0.0113"),
        (1240.4, "1,240"),
        (1.2e-5, "1.20e−5"),
        (-0.5, "−0.500"),
        (0, "0"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_numbers_keep_three_significant_digits(value: float | None, text: str) -> None:
    assert formats.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "100 %"),
        (0, "0 %"),
        (0.99999, "> 99.9 %"),
        (1e-6, "< 0.1 %"),
        (0.9986, "99.9 %"),
        (None, "–"),
        (1.5, "150.0 %"),
    ],
)
def test_a_share_is_never_rounded_to_all_or_nothing(value: float | None, text: str) -> None:
    assert formats.percent(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.53, "+0.53"), (-0.53, "−0.53"), (0.0, "0")])
def test_effects_carry_their_sign(value: float, text: str) -> None:
    assert formats.signed(value, 2) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.42, "0.42 s"), (12, "12 s"), (205, "3 min 25 s"), (7500, "2 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


def test_plurals() -> None:
    assert [formats.plural(n, "document") for n in (0, 1, 1204)] == [
        "0 documents",
        "1 document",
        "1,204 documents",
    ]
