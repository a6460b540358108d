"""How the numbers of a plan are written."""

from __future__ import annotations

import pytest

from calig.planning.show import numbers, written
from calig.warehouse.plans import Figure, Plan, Unit


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "seconds", "0 s"),
        (0.4321, "seconds", "0.432 s"),
        (119, "seconds", "119 s"),
        (150, "seconds", "2.5 min"),
        (7199, "seconds", "120 min"),
        (9000, "seconds", "2.5 h"),
        (86_400 * 2_500, "seconds", "2,500 d"),
        (999, "bytes", "999 B"),
        (1_340_000, "bytes", "1.34 MB"),
        (2.5e15, "bytes", "2.5e+03 TB"),
        (0.0123, "core-hours", "0.0123"),
        (12_345.6, "GPU-hours", "12,346"),
        (1e9, "documents", "1,000,000,000"),
    ],
)
def test_a_number_is_written_in_a_unit_of_its_size(value: float, unit: Unit, text: str) -> None:
    assert written(value, unit) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(90.0, 110.0, "90 s – 110 s"), (100.0, 100.0, ""), (None, None, "too few documents")],
)
def test_an_interval_is_written_where_there_is_one(low: float | None, high: float | None, text: str) -> None:
    plan = Plan("a", "k", "c", "2026-11-24", "a CPU", "cpu", 1, 1, ())
    assert numbers(Figure("attribution", 100.0, low, high, "seconds", "measured"), plan) == ("100 s", text)
