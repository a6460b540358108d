from __future__ import annotations

import csv
import io
import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calig.rows import cell, csv_lines, finite, json_lines, json_value, number, numbers, unique_names

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**127), 2**127)
    | st.floats()
    | st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**20), max_value=10**20)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def refuse(constant: str) -> None:
    raise ValueError(f"not JSON: {constant}")


def meant(value: Any) -> Any:
    """What a strict parser that keeps decimals should read."""
    if isinstance(value, float):
        return Decimal(repr(value)) if math.isfinite(value) else None
    if isinstance(value, list):
        return [meant(one) for one in value]
    if isinstance(value, dict):
        return {key: meant(one) for key, one in value.items()}
    return value


@given(st.lists(st.lists(VALUES, min_size=2, max_size=2), max_size=4))
def test_json_of_any_values_is_read_back_by_a_strict_parser(rows: list[list[Any]]) -> None:
    text = "".join(json_lines(["a", "b"], rows))
    read = json.loads(text, parse_constant=refuse, parse_float=Decimal)
    assert read == [{"a": meant(a), "b": meant(b)} for a, b in rows]


@given(st.lists(st.lists(TEXTS | st.none(), min_size=2, max_size=2), max_size=4))
def test_csv_tells_null_from_an_empty_text_and_ends_lines_in_line_feeds(rows: list[list[str | None]]) -> None:
    lines = list(csv_lines(["a", "b"], rows))
    text = "".join(lines)
    assert [[one or "" for one in row] for row in rows] == list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert all(line.endswith("\n") and not line.endswith("\r\n") for line in lines)
    for line, row in zip(lines[1:], rows, strict=True):
        assert line.startswith('"",') is (row[0] == "")


def test_names_are_made_unique_and_none_that_is_unique_is_changed() -> None:
    assert unique_names(["text", "text", "text_1", "text", "Text"]) == [
        "text",
        "text_2",
        "text_1",
        "text_3",
        "Text",
    ]


@given(st.lists(st.sampled_from(["a", "a_1", "a_1_1", "b"]), max_size=8))
def test_names_are_unique_whatever_they_are(names: list[str]) -> None:
    unique = unique_names(names)
    assert len(set(unique)) == len(names)
    for position, name in enumerate(names):
        assert unique[position] == name or name in names[:position]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (99999.4, "99999.4"),
        (100000.0, "100000"),
        (1234567.5, "1234567.5"),
        (0.1234567, "0.1235"),
        (-42.0, "-42"),
        (3.14159, "3.142"),
        (0.0, "0"),
        (1e-7, "1e-07"),
        (2.5e20, "2.5e+20"),
        (999.96, "1000"),
    ],
)
def test_a_number_keeps_its_whole_part(value: float, text: str) -> None:
    assert number(value) == text


@given(st.lists(st.floats(), max_size=12))
def test_different_numbers_look_different_in_a_column(values: list[float]) -> None:
    texts = numbers(values)
    for value, text in zip(values, texts, strict=True):
        for other, others in zip(values, texts, strict=True):
            if value != other and not (math.isnan(value) or math.isnan(other)):
                assert text != others


def test_only_the_numbers_that_look_alike_get_more_digits() -> None:
    assert numbers([0.123456, 0.123467, 0.5]) == ["0.12346", "0.12347", "0.5"]


def test_nested_values_are_json_in_a_cell() -> None:
    assert cell({"a": [1, None, math.nan]}) == '{"a": [1, null, null]}'
    assert cell(True) == "true"
    assert json_value({1: Decimal("12345678901234567890.5")}) == '{"1": 12345678901234567890.5}'


def test_what_is_not_finite_is_null_in_files() -> None:
    assert finite({"a": [1.5, math.inf, (math.nan, "x")]}) == {"a": [1.5, None, [None, "x"]]}
