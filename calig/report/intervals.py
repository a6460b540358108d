"""Rows of intervals: methods, best first, each with its mean or its difference from CA-LIG on a common scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from calig.report.evaluation_data import Method, Stat
from calig.report.measures import RANDOM, SUBJECT
from calig.report.standings import Column, leads


@dataclass(frozen=True, slots=True)
class Interval:
    """A row: a method's mean, or its difference from CA-LIG, with the places of its interval in per cent."""

    stat: Stat
    title: str
    state: str
    at: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Intervals:
    """A column's rows, best first, on one scale from `start` to `end`; `zero` is where 0 is on it."""

    column: Column
    rows: tuple[Interval, ...]
    start: float
    end: float
    zero: float | None


def differences(column: Column, methods: Mapping[str, Method]) -> Intervals | None:
    """Every other method's paired difference from CA-LIG, on a scale that zero is on, and a little beyond."""
    found = [
        (stat, (stat.difference, stat.difference_low, stat.difference_high))
        for method, stat in column.stats.items()
        if method != SUBJECT and stat.difference is not None
    ]
    if not found:
        return None
    known = [0.0, *(value for _, row in found for value in row if value is not None)]
    room = 0.06 * (max(known) - min(known)) or 1.0
    start, end = min(known) - room, max(known) + room
    better = column.measure.better
    rows = []
    for stat, values in found:
        at, low, high = (_within(value if value is not None else values[0], start, end) for value in values)
        clear = stat.difference_low is not None and stat.difference_high is not None
        worse = (
            clear and max(better * (stat.difference_low or 0.0), better * (stat.difference_high or 0.0)) < 0
        )
        state = "better" if leads(stat, better) else "worse" if worse else "unclear"
        rows.append(Interval(stat, methods[stat.method].title, state, at, low, high))
    return Intervals(column, tuple(rows), start, end, _within(0.0, start, end))


def means(column: Column, methods: Mapping[str, Method]) -> Intervals:
    """Every method's mean, on a scale from zero, or from the lowest end where one is below."""
    stats = list(column.stats.values())
    ends = [end for stat in stats for end in (stat.mean, stat.low, stat.high) if end is not None]
    start, end = min([0.0, *ends]), max([0.0, *ends])
    end = end if end > start else start + 1.0
    rows = []
    for stat in stats:
        at, low, high = (
            _within(value if value is not None else stat.mean, start, end)
            for value in (stat.mean, stat.low, stat.high)
        )
        state = "subject" if stat.method == SUBJECT else "control" if stat.method == RANDOM else "other"
        rows.append(Interval(stat, methods[stat.method].title, state, at, low, high))
    return Intervals(column, tuple(rows), start, end, _within(0.0, start, end) if start < 0 else None)


def _within(value: float | None, start: float, end: float) -> float:
    return min(100.0, max(0.0, 100 * ((value or 0.0) - start) / (end - start)))
