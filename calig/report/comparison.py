"""Geometry of an evaluation's charts: curves over the share removed, and faithfulness against cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from calig.report.charts import (
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Chart,
    Line,
    Tick,
    height_of,
    nice,
    tick_label,
)
from calig.report.evaluation_data import EvaluationData, Method, Stat
from calig.report.formats import alike, interval, number, percent
from calig.report.measures import RANDOM, SUBJECT, own
from calig.report.standings import Column

SCATTER_WIDTH, SCATTER_HEIGHT, MARGIN = 700, 340, 56
LETTER, LABEL_HEIGHT = 4.7, 10.0  # of a label's text, in SVG units
PARTS = {SUBJECT: "all", "lig": "c0", "ig": "c1", RANDOM: "c5"}
PEER = "c2"
_TITLES = {
    "comprehensiveness": "Comprehensiveness",
    "sufficiency": "Sufficiency",
    "curve_positive": "Most relevant removed first",
    "curve_negative": "Least relevant removed first",
    "randomisation": "Randomisation, stage by stage",
}


def styles(column: Column | None) -> dict[str, str]:
    """The CSS class of each highlighted method's line: CA-LIG, its parts, random, and the best peer of a column."""
    if column is None:
        return dict(PARTS)
    peers = [method for method in column.stats if not own(method) and method != "ig"]
    return PARTS | ({peers[0]: PEER} if peers else {})


def curves(data: EvaluationData, metric: str, removal: str | None, drawn: Mapping[str, str]) -> Chart | None:
    """One metric over the share, a line per method, highlighted ones last and so on top; None if it has no points.

    Of CA-LIG the 95 % intervals are shaded.
    """
    points: dict[str, list[Stat]] = {}
    for stat in data.stats:
        if (
            (stat.metric, stat.removal) == (metric, removal)
            and stat.share is not None
            and stat.mean is not None
        ):
            points.setdefault(stat.method, []).append(stat)
    if not points:
        return None
    values = [value for own in points.values() for stat in own for value in (stat.mean,) if value is not None]
    band = [end for stat in points.get(SUBJECT, ()) for end in (stat.low, stat.high) if end is not None]
    steps = nice(min([0.0, *values, *band]), max([1e-9, *values, *band]))
    shares = sorted({stat.share for own in points.values() for stat in own if stat.share is not None})
    span = steps[0], steps[-1]
    lines = []
    for method in sorted(points, key=lambda method: (method in drawn, method == SUBJECT, method)):
        lines.append(_line(data.methods[method], points[method], shares[-1], span, drawn))
    title = _TITLES.get(metric, metric)
    return Chart(
        title=f"{title} · {removal}" if removal else title,
        note=_note(metric, data.evaluation.head),
        summary=_summary(title, removal, points, shares[-1], data.methods),
        xs=tuple(Tick(_x(share, shares[-1]), tick_label(share, True)) for share in _spread(shares)),
        ys=tuple(Tick(height_of(step, *span), tick_label(step, False)) for step in steps),
        lines=tuple(lines),
        rule=height_of(0.0, *span) if steps[0] < 0 else None,
    )


def _line(
    method: Method, stats: Sequence[Stat], last: float, span: tuple[float, float], drawn: Mapping[str, str]
) -> Line:
    placed = [
        (_x(stat.share, last), stat)
        for stat in sorted(stats, key=lambda stat: stat.share or 0.0)
        if stat.share is not None
    ]
    points = tuple((x, height_of(stat.mean, *span)) for x, stat in placed if stat.mean is not None)
    band = ""
    if method.name == SUBJECT and all(stat.low is not None and stat.high is not None for _, stat in placed):
        upper = [(x, height_of(stat.high, *span)) for x, stat in placed if stat.high is not None]
        lower = [(x, height_of(stat.low, *span)) for x, stat in placed if stat.low is not None]
        band = _path([*upper, *reversed(lower)]) + "Z"
    return Line(method.title, drawn.get(method.name, "many"), _path(points), points, band, method.name)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _x(share: float, last: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (share / last if last else 0.0)


def _spread(shares: Sequence[float]) -> list[float]:
    """Shares far enough apart to be labelled, the last among them."""
    kept: list[float] = []
    for share in reversed(shares):
        if not kept or _x(kept[-1], shares[-1]) - _x(share, shares[-1]) >= 30:
            kept.append(share)
    return kept[::-1]


def _note(metric: str, head: str) -> str:
    quantity = "output, in standard deviations" if head == "regression" else "probability"
    return {
        "comprehensiveness": f"fall of {quantity} without the top share; ↑ higher is better",
        "sufficiency": f"fall of {quantity} with the top share alone; ↓ lower is better",
        "curve_positive": f"{quantity}; ↓ lower is better",
        "curve_negative": f"{quantity}; ↑ higher is better",
        "randomisation": "Spearman ρ of |scores| with the original’s, by blocks randomised; ↓ lower is better",
    }.get(metric, "")


def _summary(
    title: str,
    removal: str | None,
    points: Mapping[str, Sequence[Stat]],
    last: float,
    methods: Mapping[str, Method],
) -> str:
    ends = {method: stat for method, stats in points.items() for stat in stats if stat.share == last}
    named = [method for method in (SUBJECT, RANDOM) if method in ends]
    said = ", ".join(f"{methods[method].title} {_mean(ends[method])}" for method in named)
    where = f" by {removal}" if removal else ""
    return f"{title}{where}, {len(points)} methods over shares up to {percent(last)}. There: {said or 'see the table'}."


def _mean(stat: Stat) -> str:
    return alike(stat.mean)[0]


@dataclass(frozen=True, slots=True)
class Point:
    """A method in the scatter, its interval from `low` to `high`; no label where it would cover another."""

    key: str
    style: str
    title: str
    x: float
    y: float
    low: float
    high: float
    label: str
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True, slots=True)
class Scatter:
    """Faithfulness against cost: methods, the axes' ticks, and the frontier that no method is beyond."""

    points: tuple[Point, ...]
    xs: tuple[Tick, ...]
    ys: tuple[Tick, ...]
    frontier: str
    summary: str


def scatter(column: Column, methods: Mapping[str, Method], drawn: Mapping[str, str]) -> Scatter | None:
    """A column's means over passes per document, on a logarithmic axis; what takes no pass is at its left end."""
    known = [
        (stat, passes)
        for method, stat in column.stats.items()
        if (passes := methods[method].passes) is not None and stat.mean is not None
    ]
    if not known:
        return None
    costs = [passes for _, passes in known if passes > 0] or [1.0]
    first, last = math.log10(min(costs)), math.log10(max(costs))
    last = max(last, first + 1)
    free = any(passes <= 0 for _, passes in known)
    left = MARGIN + (46 if free else 14)

    def across(passes: float) -> float:
        if passes <= 0:
            return MARGIN + 14.0
        return left + (SCATTER_WIDTH - 80 - left) * (math.log10(passes) - first) / (last - first)

    ends = [end for stat, _ in known for end in (stat.mean, stat.low, stat.high) if end is not None]
    steps = nice(min(ends), max(ends), 5)

    def down(value: float) -> float:
        return TOP + (SCATTER_HEIGHT - TOP - 44) * (1 - (value - steps[0]) / (steps[-1] - steps[0]))

    order = sorted(known, key=lambda pair: (pair[0].method not in drawn, pair[0].method != SUBJECT))
    taken = [(across(passes) - 4, down(stat.mean or 0.0) - 4, 8.0, 8.0) for stat, passes in known]
    points = []
    for stat, passes in order:
        x, y = across(passes), down(stat.mean or 0.0)
        title = methods[stat.method].title
        label, label_x, label_y, anchor = _labelled(title, x, y, taken)
        low, high = (down(end if end is not None else stat.mean or 0.0) for end in (stat.low, stat.high))
        said = f"{title}: {_mean(stat)} {interval(stat.low, stat.high)}, {number(passes)} passes"
        style = drawn.get(stat.method, "many")
        points.append(Point(stat.method, style, said, x, y, low, high, label, label_x, label_y, anchor))
    round_costs = [factor * 10.0**power for power in range(-3, 7) for factor in (1, 2, 5)]
    ticks = [
        Tick(across(cost), f"{cost:,g}") for cost in round_costs if first - 1e-9 <= math.log10(cost) <= last
    ]
    return Scatter(
        points=tuple(reversed(points)),
        xs=((Tick(across(0.0), "0"),) if free else ()) + tuple(ticks),
        ys=tuple(Tick(down(step), tick_label(step, False)) for step in steps),
        frontier=_frontier(
            [(across(passes), down(stat.mean or 0.0)) for stat, passes in known], column.measure.better
        ),
        summary=f"{column.title} against passes per document. "
        + "; ".join(
            f"{methods[stat.method].title} {_mean(stat)} at {number(passes)}" for stat, passes in known
        ),
    )


def _labelled(
    title: str, x: float, y: float, taken: list[tuple[float, float, float, float]]
) -> tuple[str, float, float, str]:
    """A label and where it goes: beside, above or below its point; none where it would cover something everywhere.

    What it takes is added to `taken`, as (left, top, width, height).
    """
    width = len(title) * LETTER
    for dx, dy in ((7, 0), (-7, 0), (3, -9), (3, 9), (-3, -9), (-3, 9), (5, -17), (5, 17)):
        box = (x + dx - (width if dx < 0 else 0), y + dy - LABEL_HEIGHT / 2, width, LABEL_HEIGHT)
        inside = box[0] > MARGIN and box[0] + width < SCATTER_WIDTH - 10
        if inside and not any(_overlap(box, other) for other in taken):
            taken.append(box)
            return title, x + dx, y + dy, "start" if dx > 0 else "end"
    return "", x, y, "start"


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    across = one[0] < other[0] + other[2] and other[0] < one[0] + one[2]
    return across and one[1] < other[1] + other[3] and other[1] < one[1] + one[3]


def _frontier(points: Sequence[tuple[float, float]], better: int) -> str:
    """The staircase through the points that no cheaper point is better than."""
    path, best = "", math.inf
    for x, y in sorted(points, key=lambda point: (point[0], better * point[1])):
        if better * y < best:
            path += f"M{x:.1f} {y:.1f}" if not path else f"H{x:.1f}V{y:.1f}"
            best = better * y
    return path + (f"H{SCATTER_WIDTH - 14}" if path else "")
