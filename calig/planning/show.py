"""A plan, printed: each number with its interval and what it is based on and, after the run, what it came to."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from calig.rows import finite
from calig.warehouse.plans import Figure, Plan, Unit

_BYTES = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3, "B": 1.0}
_TIMES = {"d": 86_400.0, "h": 3_600.0, "min": 60.0, "s": 1.0}
_TIME_FROM = 2
"""A longer unit of time is used from twice its length on: 90 s, but 2.5 min."""


def print_plan(plan: Plan, out: Console) -> None:
    """Print a plan as a table, with actual numbers where there are some."""
    threads = f"{plan.threads} thread{'s' if plan.threads > 1 else ''}"
    out.print(
        Text(
            f"plan of {plan.audit}, made {plan.made}: {plan.workers} × {plan.device}, {threads}, {plan.machine}"
        ),
        soft_wrap=True,
    )
    table = Table(box=None, header_style="bold")
    table.add_column("what", no_wrap=True)
    for column in (
        "predicted",
        "95 % interval",
        *(() if plan.actual is None else ("actual", "actual / predicted")),
    ):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("based on", overflow="fold")
    for figure in plan.figures:
        table.add_row(*map(Text, (figure.name, *numbers(figure, plan), figure.basis)))
    out.print(table)
    for line in plan.cannot_see:
        gate, _, rest = line.partition(": ")
        out.print(Text(f"gates.{gate} cannot see {rest}"), soft_wrap=True)


def to_json(plan: Plan) -> str:
    """Return a plan as JSON text."""
    return json.dumps(finite(plan.to_json()), indent=1, ensure_ascii=False, allow_nan=False)


def numbers(figure: Figure, plan: Plan) -> tuple[str, ...]:
    """Write a figure's prediction and interval and, once the plan's run is complete, the actual number and ratio."""
    if figure.low is None or figure.high is None:
        ends = "too few documents"
    elif figure.low == figure.high:
        ends = ""
    else:
        ends = " – ".join(written(end, figure.unit) for end in (figure.low, figure.high))
    predicted = (written(figure.value, figure.unit), ends)
    if plan.actual is None:
        return predicted
    found = plan.actual.get(figure.name)
    if found is None:
        return (*predicted, "", "")
    ratio = f"{found / figure.value:.2f}" if figure.value else ""
    return (*predicted, written(found, figure.unit), ratio)


def written(value: float, unit: Unit) -> str:
    """Write a number in a unit that suits its size: 150 s as 2.5 min, 2·10⁹ bytes as 2 GB."""
    if unit == "bytes":
        name, size = next(((n, s) for n, s in _BYTES.items() if value >= s), ("B", 1.0))
        return f"{value / size:.3g} {name}"
    if unit == "seconds":
        name, size = next(((n, s) for n, s in _TIMES.items() if value >= _TIME_FROM * s), ("s", 1.0))
        return f"{value / size:.3g} {name}" if value < 1000 * size else f"{value / size:,.0f} {name}"
    if unit in ("core-hours", "GPU-hours") and value < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}"
