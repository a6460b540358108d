"""Geometry of the page's charts, drawn as SVG by `charts.html.j2`; units here are SVG units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from calig.records import ALL_CLASSES
from calig.report.formats import number, percent
from calig.report.model import LayerRow, PlaceRow, RegionEffect, WordEffect
from calig.report.terms import Terms

WIDTH, HEIGHT = 320, 176
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 10, 26
PALETTE = 6

AnyRow = TypeVar("AnyRow", LayerRow, PlaceRow)


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick at `at`, labelled."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line: `style` names its CSS class, `points` are drawn as dots.

    `band` outlines its intervals, where they are shown; `key` ties it to a legend that lights it up.
    """

    label: str
    style: str
    path: str
    points: tuple[tuple[float, float], ...]
    band: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A small multiple: lines over depth, or bars per depth."""

    title: str
    note: str
    summary: str
    xs: tuple[Tick, ...]
    ys: tuple[Tick, ...]
    lines: tuple[Line, ...] = ()
    bars: tuple[tuple[float, float, float, float, str], ...] = ()
    rule: float | None = None
    marker: float | None = None
    marker_label: str = ""


def line_style(label: str, classes: Sequence[str]) -> str:
    """The CSS class of a class's line: `all`, one of six colours, or grey where there are more."""
    if label == ALL_CLASSES:
        return "all"
    if len(classes) > PALETTE or label not in classes:
        return "many"
    return f"c{classes.index(label)}"


def profile(
    rows: Sequence[LayerRow],
    classes: Sequence[str],
    depths: int,
    median_settling: float | None,
    called: Terms,
    behind: Sequence[LayerRow] = (),
) -> list[Chart]:
    """The layer profile's line charts; rank agreement carries the threshold and median of settling.

    `behind` is the profile of another run, over all its documents, drawn in grey behind this one.
    """

    def chart(title: str, note: str, value: Callable[[LayerRow], float | None], **options: Any) -> Chart:
        return _lines(rows, classes, depths, called, title, note, value, behind=behind, **options)

    agreement = chart(
        "Rank agreement", "Spearman ρ with the final score", lambda row: row.rank_agreement, rule=0.8
    )
    if median_settling is not None:
        marker = depth_at(median_settling, depths)
        agreement = replace(
            agreement, marker=marker, marker_label=f"median settling depth {median_settling:g}"
        )
    return [
        chart(
            "Cancellation", "Σ|IG| ÷ |Σ IG|; 1 means nothing cancels", lambda row: row.cancellation, low=1.0
        ),
        chart(
            called.effective,
            f"{called.carriers} that would carry it evenly",
            lambda row: row.effective_tokens,
        ),
        chart(
            "Special-token share",
            "of Σ|IG| on [CLS], [SEP] and the like"
            if called.item == "word"
            else "of Σ|IG| on [CLS], registers and the like",
            lambda row: row.special_share,
            high=1.0,
            share=True,
        ),
        agreement,
        chart(
            "Sign agreement",
            f"{called.items} with the final score's sign",
            lambda row: row.sign_agreement,
            high=1.0,
            share=True,
        ),
    ]


def places(rows: Sequence[PlaceRow], classes: Sequence[str], depths: int, called: Terms) -> list[Chart]:
    """Of images, line charts of where the patches' relevance sits: the border's share, and the centre of mass."""
    whole = [row for row in rows if row.label == ALL_CLASSES]
    area = next((row.border_area for row in whole if row.border_area is not None), None)
    final = next((row.border_share for row in whole if row.depth is None), None)

    def chart(title: str, note: str, value: Callable[[PlaceRow], float | None], **options: Any) -> Chart:
        return _lines(rows, classes, depths, called, title, note, value, share=True, **options)

    return [
        chart(
            "Border share",
            f"of patches' Σ|IG|; final {percent(final)}; dashed: its area, {percent(area)}",
            lambda row: row.border_share,
            high=1.0,
            rule=area,
        ),
        chart(
            "Centre of mass, height",
            "of the patches' |IG|; 100 % is the top edge",
            lambda row: None if row.centre_row is None else 1 - row.centre_row,
            low=0.4,
            high=0.6,
        ),
        chart(
            "Centre of mass, width",
            "of the patches' |IG|; 100 % is the right edge",
            lambda row: row.centre_column,
            low=0.4,
            high=0.6,
        ),
    ]


def _lines(
    rows: Sequence[AnyRow],
    classes: Sequence[str],
    depths: int,
    called: Terms,
    title: str,
    note: str,
    value: Callable[[AnyRow], float | None],
    *,
    low: float = 0.0,
    high: float = 1e-9,
    share: bool = False,
    rule: float | None = None,
    behind: Sequence[AnyRow] = (),
) -> Chart:
    """One line a class over depth, the line of all documents last; the axis covers `low`..`high` at least."""
    placed = [(row, row.depth) for row in sorted(rows, key=lambda row: row.label == ALL_CLASSES)]
    found: list[tuple[str, int, float]] = _values([row for row, _ in placed], value)
    before: list[tuple[str, int, float]] = [one for one in _values(behind, value) if one[1] < depths]
    ends: list[float] = [reached for *_, reached in (*found, *before)]
    steps = nice(min([low, *ends]), max([low + 1e-9, high, *ends]))
    first, last = steps[0], steps[-1]
    lines = []
    if before:
        points = tuple(
            (depth_at(depth, depths), height_of(reached, first, last)) for _, depth, reached in before
        )
        lines.append(Line("compared run", "behind", path_of(points), points))
    for label in dict.fromkeys(row.label for row, _ in placed):
        points = tuple(
            (depth_at(depth, depths), height_of(known, first, last))
            for own, depth, known in found
            if own == label
        )
        shown = f"all {called.document}s" if label == ALL_CLASSES else label
        lines.append(Line(shown, line_style(label, classes), path_of(points), points))
    write = percent if share else number
    whole = [value(row) for row, depth in placed if row.label == ALL_CLASSES and depth is not None] or [None]
    return Chart(
        title=title,
        note=note,
        summary=f"{title}, all {called.document}s: {write(whole[0])} at depth 0, {write(whole[-1])} at the last.",
        xs=depth_ticks(depths),
        ys=tuple(Tick(height_of(step, first, last), tick_label(step, share)) for step in steps),
        lines=tuple(lines),
        rule=None if rule is None else height_of(rule, first, last),
    )


def _values(rows: Sequence[AnyRow], value: Callable[[AnyRow], float | None]) -> list[tuple[str, int, float]]:
    """(class, depth, value) of what is known."""
    return [
        (row.label, row.depth, known)
        for row in rows
        if row.depth is not None and (known := value(row)) is not None and math.isfinite(known)
    ]


def settling(counts: Sequence[tuple[int | None, int]], depths: int, called: Terms) -> Chart:
    """How many documents settle at each depth, as bars; those that never do at the right."""
    total = sum(count for _, count in counts) or 1
    places = [*range(depths - 1), None]
    found = dict(counts)
    steps = nice(0.0, max([0.1, *(count / total for _, count in counts)]))
    slot = (WIDTH - LEFT - RIGHT) / len(places)
    bars, ticks = [], []
    every = math.ceil(depths / 10)
    for index, depth in enumerate(places):
        share = found.get(depth, 0) / total
        y = height_of(share, 0.0, steps[-1])
        name = "never" if depth is None else f"depth {depth}"
        bars.append(
            (LEFT + slot * (index + 0.14), y, slot * 0.72, HEIGHT - BOTTOM - y, f"{name}: {percent(share)}")
        )
        if depth is None or (depth % every == 0 and depths - 1 - depth >= every * 0.75):
            ticks.append(Tick(LEFT + slot * (index + 0.5), "never" if depth is None else str(depth)))
    spoken = ", ".join(f"{'never' if d is None else d}: {count}" for d, count in counts)
    return Chart(
        title="Settling depth",
        note=f"share of {called.document}s, by the depth they settle at",
        summary=f"{called.document.capitalize()}s per settling depth: {spoken}.",
        xs=tuple(ticks),
        ys=tuple(Tick(height_of(step, 0.0, steps[-1]), tick_label(step, True)) for step in steps),
        bars=tuple(bars),
    )


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar and interval of a word or region, in per cent of the common scale."""

    width: float
    low: float
    high: float


def bar(effect: WordEffect | RegionEffect, scale: float) -> Bar:
    """The bar of a word or region on a scale of 0..`scale` logits; ends beyond it are cut."""
    ends = sorted((effect.low, effect.high) if effect.supports else (-effect.low, -effect.high))
    low, high = (min(100.0, max(0.0, 100 * end / scale)) for end in ends)
    return Bar(min(100.0, 100 * abs(effect.effect) / scale), low, high)


def scale_of(found: Sequence[WordEffect | RegionEffect]) -> float:
    """The end of the bars' scale, in logits: the largest interval end, up to 1.5 × the largest effect."""
    largest = max((abs(effect.effect) for effect in found), default=0.0)
    end = max((max(abs(effect.low), abs(effect.high)) for effect in found), default=0.0)
    return min(end, 1.5 * largest) or 1.0


def path_of(points: Sequence[tuple[float, float]]) -> str:
    """A line through points; nothing for none."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) if points else ""


def depth_at(depth: float, depths: int) -> float:
    """Where a depth is, from the left."""
    return LEFT + (WIDTH - LEFT - RIGHT) * (depth / max(1, depths - 1))


def height_of(value: float, low: float, high: float) -> float:
    """Where a value is on an axis from `low` to `high`, from the top."""
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low))


def depth_ticks(depths: int) -> tuple[Tick, ...]:
    """Ticks of an axis over the depths."""
    every = math.ceil(depths / 13)
    return tuple(Tick(depth_at(depth, depths), str(depth)) for depth in range(0, depths, every))


def nice(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round steps that cover low..high."""
    raw = max(high - low, 1e-9) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def tick_label(value: float, share: bool) -> str:
    """A tick's value, as a percentage where it is a share."""
    return f"{value * 100:.12g} %" if share else f"{value:.12g}".replace("-", "−")
