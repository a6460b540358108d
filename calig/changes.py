"""What changed between two runs, printed: the verdict, the outcomes and the words that changed."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table
from rich.text import Text

from calig.commands import command
from calig.comparison.counts import tested
from calig.terminal import printable
from calig.warehouse.comparisons import read_table
from calig.warehouse.layout import Warehouse

WORDS = 30
"""Rows of words printed at most; the table `comparison_words` has them all."""


def print_changes(warehouse: Warehouse, run_id: str, reference_id: str, out: Console) -> None:
    """Print a comparison: verdict, how much was tested, and what changed, outcomes first, words the surest first.

    What differs in how the runs were explained comes before all that.
    """
    folder = warehouse.comparison(run_id, reference_id)
    row = read_table(folder, "comparisons").to_pylist()[0]
    out.print(Text(f"{reference_id} → {run_id}"), Text(f"({_sample(row)})"), soft_wrap=True)
    for difference in row.get("differences") or ():
        out.print(
            Text(f"{difference[0].upper()}{printable(difference[1:])}.", style="yellow"), soft_wrap=True
        )
    out.print(Text(printable(row["verdict"]), style="bold"), soft_wrap=True)
    out.print(Text(tested(row)), soft_wrap=True)
    outcomes, words, layers = (_changed(folder, file) for file in ("outcomes", "words", "layers"))
    if outcomes:
        _print(
            out,
            ("outcome", "class", "before", "after", "95 % interval", "q"),
            [
                (r["measure"], r["class"], _number(r["a"]), _number(r["b"]), _interval(r), _number(r["q"]))
                for r in outcomes
            ],
        )
    if layers:
        _print(
            out,
            ("layer measure", "class", "depth", "before", "after", "q"),
            [
                (r["measure"], r["class"], str(r["depth"]), _number(r["a"]), _number(r["b"]), _number(r["q"]))
                for r in sorted(layers, key=lambda r: -abs(r["size"]))[:WORDS]
            ],
        )
    if words:
        _print(
            out,
            ("word", "class", "change", "documents", "effect", "q"),
            [_word(r) for r in sorted(words, key=lambda r: (_least_q(r), r["word"], r["class"]))[:WORDS]],
        )
        if len(words) > WORDS:
            sql = f"FROM comparison_words WHERE changed AND reference_id = '{reference_id}'"
            more = command("query", sql, "--run", run_id, warehouse=warehouse.place)
            out.print(Text(f"and {len(words) - WORDS} more rows: {more}"), soft_wrap=True)


def _sample(row: dict[str, Any]) -> str:
    """What was compared with what: the same documents, or two samples and how many are in both."""
    edited = f", {row['text_changed']} with another text" if row.get("text_changed") else ""
    if row.get("tests_paired", bool(row["paired"])):
        return f"{row['paired']} documents paired"
    both = f": {row['paired']} in both{edited}" if row["paired"] or edited else ""
    return f"{row['documents_a']} documents against {row['documents_b']}{both}"


def _changed(folder: Any, file: str) -> list[dict[str, Any]]:
    table = read_table(folder, file)
    rows: list[dict[str, Any]] = table.filter(pc.fill_null(table["changed"], False)).to_pylist()
    return rows


def _word(row: dict[str, Any]) -> tuple[str, ...]:
    documents = f"{row['documents_a']} → {row['documents_b']}"
    effects = f"{_number(row['effect_a'])} → {_number(row['effect_b'])}"
    return (printable(row["word"]), row["class"], row["change"], documents, effects, _number(_least_q(row)))


def _least_q(row: dict[str, Any]) -> float:
    return float(min(q for q in (row["q"], row["share_q"]) if q is not None))


def _interval(row: dict[str, Any]) -> str:
    return f"{row['low']:+.3g} to {row['high']:+.3g}" if row["low"] is not None else ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _print(out: Console, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    out.print()
    out.print(table)
