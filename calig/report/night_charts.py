"""Geometry of the trend page's charts, one column a night, drawn as SVG by `trend.html.j2`; units are SVG units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from calig.report.charts import Tick, nice, tick_label
from calig.report.formats import MISSING, integer, number, percent, signed

HEIGHT = 176
RIGHT, TOP, BOTTOM = 10, 10, 26
DOTS = 60
"""Nights up to which each has a dot."""
LEVELS = 10
"""Steps of a heat map's scale."""
ROW = 22
"""Height of a row of the strip of gates."""
DATES = 6

WRITE: Mapping[str, Callable[[float | None], str]] = {
    "number": number,
    "percent": percent,
    "integer": integer,
    "signed": signed,
}
Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Series:
    """A line: a value per night; `style` is its CSS class."""

    label: str
    style: str
    values: Values


@dataclass(frozen=True, slots=True)
class Drawn:
    """Something drawn: its CSS class and its path; `dots` are drawn as such."""

    style: str
    path: str
    dots: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What the chart says of each night in one line of its legend."""

    label: str
    style: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """The nights' places: how many there are, the chart's width, and the room for labels at its left."""

    nights: int
    width: int = 560
    left: int = 46

    @property
    def slot(self) -> float:
        """Width of a night."""
        return (self.width - self.left - RIGHT) / self.nights

    def at(self, night: int) -> float:
        """The middle of a night."""
        return self.left + self.slot * (night + 0.5)

    def ticks(self, days: Sequence[datetime]) -> tuple[Tick, ...]:
        """Some dates, evenly apart, the last one always."""
        every = max(1, math.ceil(self.nights / DATES))
        chosen = range(self.nights - 1, -1, -every)
        return tuple(Tick(self.at(night), f"{days[night]:%-d %b}") for night in reversed(chosen))


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where the control of slow drift found a change: the nights since which it is there and in which it was found."""

    since: int
    found: int
    text: str


@dataclass(frozen=True, slots=True)
class NightChart:
    """A chart over the nights: lines, or cells of a heat map or strip, and what it says of each night.

    `metric` is what `calig history` calls its numbers, without list, term and depth; `crossings` are of these, newest
    first.
    """

    key: str
    title: str
    note: str
    axis: Axis
    height: int
    ys: tuple[Tick, ...]
    grid: bool
    drawn: tuple[Drawn, ...]
    readings: tuple[Reading, ...]
    rules: tuple[float, ...] = ()
    metric: str = ""
    crossings: tuple[Crossing, ...] = ()


def lines(
    key: str,
    title: str,
    note: str,
    series: Sequence[Series],
    *,
    write: str = "number",
    low: float | None = None,
    high: float | None = None,
    rules: Sequence[float] = (),
    metric: str = "",
) -> NightChart | None:
    """Lines over the nights; None if no value is known. The axis covers `low`..`high` at least, and rules near it."""
    series = [one for one in series if any(_known(value) for value in one.values)]
    values = [value for one in series for value in one.values if value is not None and math.isfinite(value)]
    if not values:
        return None
    bounds = [*values, *(end for end in (low, high) if end is not None)]
    first, last = min(bounds), max(bounds)
    if first == last:
        first, last = first - 0.5 * (abs(first) or 1.0), last + 0.5 * (abs(last) or 1.0)
        first = max(first, 0.0) if min(bounds) >= 0 else first
    steps = nice(first, last, 3)
    axis = Axis(len(series[0].values))

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - steps[0]) / (steps[-1] - steps[0]))

    drawn = []
    for one in series:
        points = [
            (axis.at(night), y(value)) if value is not None and math.isfinite(value) else None
            for night, value in enumerate(one.values)
        ]
        path = broken_path(points)
        alone = [
            point
            for place, point in enumerate(points)
            if point is not None
            and (
                axis.nights <= DOTS
                or (
                    (place == 0 or points[place - 1] is None)
                    and (place + 1 == len(points) or points[place + 1] is None)
                )
            )
        ]
        drawn.append(Drawn(f"line {one.style}", path, tuple(alone)))
    share = write == "percent"
    return NightChart(
        key=key,
        title=title,
        note=note,
        axis=axis,
        height=HEIGHT,
        ys=tuple(Tick(y(step), tick_label(round(step, 10), share)) for step in steps),
        grid=True,
        drawn=tuple(drawn),
        readings=tuple(
            Reading(one.label, one.style, tuple(WRITE[write](value) for value in one.values))
            for one in series
        ),
        rules=tuple(y(rule) for rule in rules if steps[0] < rule < steps[-1]),
        metric=metric,
    )


def broken_path(points: Sequence[tuple[float, float] | None]) -> str:
    """A line through points, broken where one is missing."""
    parts, on = [], False
    for point in points:
        if point is None:
            on = False
            continue
        parts.append(f"{'L' if on else 'M'}{point[0]:.1f} {point[1]:.1f}")
        on = True
    return "".join(parts)


def heat(
    key: str,
    title: str,
    note: str,
    rows: Sequence[tuple[int, Values]],
    *,
    share: bool = False,
    metric: str = "",
) -> NightChart | None:
    """Depth by night, the darker the larger; None if no value is known. `rows` are depths from 0, and their values."""
    values = [value for _, row in rows for value in row if value is not None and math.isfinite(value)]
    if not values:
        return None
    write = percent if share else number
    first, last = min(values), max(values)
    axis = Axis(len(rows[0][1]))
    height = (HEIGHT - TOP - BOTTOM) / len(rows)
    cells: list[list[str]] = [[] for _ in range(LEVELS)]
    ys, every = [], math.ceil(len(rows) / 7)
    for place, (depth, row) in enumerate(rows):
        top = HEIGHT - BOTTOM - height * (place + 1)
        if place % every == 0:
            ys.append(Tick(top + height / 2, str(depth)))
        for night, value in enumerate(row):
            if value is not None and math.isfinite(value):
                level = min(LEVELS - 1, int(LEVELS * (value - first) / ((last - first) or 1.0)))
                cells[level].append(_cell(axis, night, top, height))
    return NightChart(
        key=key,
        title=title,
        note=f"{note}; light {write(first)}, dark {write(last)}"
        if first < last
        else f"{note}; {write(first)} throughout",
        axis=axis,
        height=HEIGHT,
        ys=tuple(ys),
        grid=False,
        drawn=tuple(Drawn(f"cell l{level}", "".join(own)) for level, own in enumerate(cells) if own),
        readings=tuple(
            Reading(f"depth {depth}", "", tuple(write(value) for value in row)) for depth, row in rows
        ),
        metric=metric,
    )


def strip(
    key: str, title: str, note: str, rows: Sequence[tuple[str, Sequence[tuple[str, str]]]]
) -> NightChart | None:
    """A row per gate, a cell per night: `rows` are names and (state, what it says), the state empty for none."""
    if not rows:
        return None
    axis = Axis(len(rows[0][1]), width=1140, left=230)
    sizes = {"holds": 5.0, "unchecked": 2.0, "warns": 11.0, "fails": 17.0}
    cells: dict[str, list[str]] = {state: [] for state in sizes}
    ys = []
    for place, (name, states) in enumerate(rows):
        middle = TOP + ROW * (place + 0.5)
        ys.append(Tick(middle, name))
        for night, (state, _) in enumerate(states):
            if state in cells:
                cells[state].append(_cell(axis, night, middle - sizes[state] / 2, sizes[state]))
    return NightChart(
        key=key,
        title=title,
        note=note,
        axis=axis,
        height=TOP + ROW * len(rows) + BOTTOM,
        ys=tuple(ys),
        grid=False,
        drawn=tuple(Drawn(f"gate {state}", "".join(own)) for state, own in cells.items() if own),
        readings=tuple(
            Reading(name, "", tuple(text or MISSING for _, text in states)) for name, states in rows
        ),
    )


def _cell(axis: Axis, night: int, top: float, height: float) -> str:
    gap = 0.14 if axis.nights <= 120 else 0.0
    left, width = axis.at(night) - axis.slot * (0.5 - gap / 2), axis.slot * (1 - gap)
    return f"M{left:.1f} {top:.1f}h{width:.2f}v{height:.1f}h{-width:.2f}z"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
