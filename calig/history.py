"""An audit's history in the terminal: a metric's values night after night, with bars, or the metrics there are."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from calig.rows import csv_lines, json_lines, number, plural
from calig.terminal import printable
from calig.warehouse.metrics import Metric, Point
from calig.warehouse.slow_drift import SlowDrift

BLOCKS = "▁▂▃▄▅▆▇█"
BAR = 24
"""Cells of the longest bar."""
SPARKS = 60
"""Values of a line of sparks, the newest ones."""


def print_series(metric: str, points: Sequence[Point], console: Console) -> None:
    """Print a metric's values, a row a run with its bar, and under them the same as one line per run compared with."""
    several = any(point.against is not None for point in points)
    table = Table(box=None, header_style="bold")
    for column in ("run", "started", *(["against"] if several else [])):
        table.add_column(column, no_wrap=True)
    table.add_column(Text(printable(metric)), justify="right", no_wrap=True)
    table.add_column("")
    low, high = _ends(points)
    for point in points:
        reference = [Text(printable(point.against or ""))] if several else []
        table.add_row(
            Text(printable(point.run_id)),
            f"{point.started:%Y-%m-%d %H:%M}",
            *reference,
            written(point.value),
            Text(bar(point.value, low, high), "blue"),
        )
    console.print(table)
    for against in dict.fromkeys(point.against for point in points):
        own = [point for point in points if point.against == against]
        since = f" against {against}" if against is not None else ""
        low, high = _ends(own)
        line = sparks([point.value for point in own])
        text = f"{metric}{since}  {line}  {written(low)} to {written(high)}"
        console.print(Text(printable(text)), soft_wrap=True)


def print_slow_drift(metric: str, drift: SlowDrift, console: Console) -> None:
    """Print what the sequential control of a metric found, newest first; nothing of metrics that it does not follow."""
    own = next((one for one in drift.followed if one.metric == metric), None)
    if own is None:
        return
    found = [drift.sentence(one, alarm) for one, alarm in drift.alarms() if one is own]
    if not found:
        runs = plural(len(drift.runs), "run")
        wait = plural(own.missing_runs, "more run")
        found = [
            f"{runs} so far: can find something after {wait}" if own.missing_runs else f"none over {runs}"
        ]
    for text in found:
        console.print(Text(printable(f"slow drift: {text}")), soft_wrap=True)


def print_metrics(metrics: Sequence[Metric], console: Console) -> None:
    """Print the metrics that there are, each with its newest value."""
    table = Table(box=None, header_style="bold")
    table.add_column("metric", overflow="fold")
    table.add_column("newest", justify="right", no_wrap=True)
    table.add_column("run", no_wrap=True)
    for one in metrics:
        against = f" against {one.newest.against}" if one.newest.against is not None else ""
        run = f"{one.newest.run_id}{against}"
        table.add_row(Text(printable(one.name)), written(one.newest.value), Text(printable(run)))
    console.print(table)


def print_plain(points: Sequence[Point], as_json: bool) -> None:
    """Print a metric's values to be read by programs, as CSV or JSON, on standard output."""
    _print_rows([_row(point) for point in points], as_json)


def print_plain_metrics(metrics: Sequence[Metric], as_json: bool) -> None:
    """Print the metrics that there are to be read by programs, as CSV or JSON, on standard output."""
    _print_rows([{"metric": one.name} | _row(one.newest) for one in metrics], as_json)


def _row(point: Point) -> dict[str, Any]:
    return {
        "run_id": point.run_id,
        "started": point.started.isoformat(),
        "against": point.against,
        "value": point.value if point.value is not None and math.isfinite(point.value) else None,
    }


def _print_rows(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    if rows or as_json:
        write = json_lines if as_json else csv_lines
        sys.stdout.writelines(write(list(rows[0]) if rows else [], [list(row.values()) for row in rows]))


def bar(value: float | None, low: float, high: float) -> str:
    """A bar from 0, or from the lowest value where there are negative ones, to `value`; empty for none."""
    if value is None or not math.isfinite(value):
        return ""
    start = min(0.0, low)
    part = (value - start) / ((max(high, 0.0) - start) or 1.0)
    eighths = round(BAR * 8 * min(1.0, max(0.0, part)))
    return "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")


def sparks(values: Sequence[float | None]) -> str:
    """The newest values as one line of blocks from the lowest to the highest of them; a blank for none."""
    shown = values[-SPARKS:]
    known = [value for value in shown if value is not None and math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    line = ""
    for value in shown:
        if value is None or not math.isfinite(value):
            line += " "
        else:
            line += BLOCKS[min(7, int(8 * (value - low) / (high - low)))] if high > low else BLOCKS[3]
    return line


def written(value: float | None) -> str:
    """A value to four significant digits, whole numbers in full; a dash for none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() else number(value)


def _ends(points: Sequence[Point]) -> tuple[float, float]:
    known = [point.value for point in points if point.value is not None and math.isfinite(point.value)]
    return min(known, default=0.0), max(known, default=0.0)
