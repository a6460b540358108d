"""An evaluation's outcome in the terminal: the methods, most faithful first, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from calig.terminal import printable
from calig.warehouse.database import records
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_tables

Row = dict[str, Any]
FAITHFULNESS = ("comprehensiveness", "auc_positive")
"""The first of these that was measured is shown, for each removal."""
LOWER_FIRST = ("auc_positive",)


def print_standings(warehouse: Warehouse, evaluation_id: str, seconds: float, console: Console) -> None:
    """Print what an evaluation found: a line on it, and a row per method."""
    with closing(open_tables(warehouse)) as connection:

        def fetch(table: str) -> list[Row]:
            return records(
                connection.execute(f"SELECT * FROM {table} WHERE evaluation_id = ?", [evaluation_id])
            )

        [own], methods, stats = fetch("evaluations"), fetch("evaluation_methods"), fetch("evaluation_stats")
    pairs = f" and {own['pairs']} contrast pairs" if own["pairs"] else ""
    console.print(
        f"[bold]{evaluation_id}[/]: {own['documents']} documents{pairs}, {own['failures']} failures, {seconds:.0f} s",
        soft_wrap=True,
    )
    console.print(_table(methods, stats))
    for method in methods:
        if method["refusal"] is not None:
            console.print(Text(printable(f"{method['method']}: {method['refusal']}"), "dim"), soft_wrap=True)


def _table(methods: Sequence[Row], stats: Sequence[Row]) -> Table:
    means = {(row["metric"], row["removal"], row["method"]): row for row in stats if row["share"] is None}
    there = {metric for metric, _, _ in means}
    metrics = [*[m for m in FAITHFULNESS if m in there][:1], *(["token_f1"] if "token_f1" in there else [])]
    columns = [
        (metric, removal)
        for metric in metrics
        for removal in dict.fromkeys(key[1] for key in means if key[0] == metric)
    ]
    table = Table(box=None, header_style="bold")
    table.add_column("method", no_wrap=True)
    for metric, removal in columns:
        title = metric.replace("_", " ").replace("f1", "F1")
        table.add_column(title if removal is None else f"{title}, {removal}", justify="right")
    table.add_column("passes", justify="right")
    table.add_column("seconds", justify="right")

    def place(method: Row) -> tuple[bool, float]:
        row = means.get((*columns[0], method["method"])) if columns else None
        if row is None or row["mean"] is None:
            return True, 0.0
        return False, row["mean"] if columns[0][0] in LOWER_FIRST else -row["mean"]

    for method in sorted((m for m in methods if m["refusal"] is None), key=place):
        cells = [_interval(means.get((*column, method["method"]))) for column in columns]
        costs = ["" if method[k] is None else f"{method[k]:.3g}" for k in ("passes", "seconds")]
        table.add_row(method["method"], *cells, *costs)
    return table


def _interval(row: Row | None) -> str:
    if row is None or row["mean"] is None:
        return ""
    if row["low"] is None:
        return f"{row['mean']:.3f} (too few documents)"
    return f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
