"""The gates in SQL: a SELECT that must return no row, answered as `calig query` answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from calig.config.history import SqlGate
from calig.errors import InputError
from calig.gates.finding import DOCUMENTS
from calig.rows import cell, number
from calig.warehouse.gates import SEE, GateOutcome
from calig.warehouse.guard import check_select
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import QueryResult, query
from calig.warehouse.questions import asked

ROWS = 1000
"""Rows of an answer that are counted."""
SHOWN_ROWS, SHOWN_CELLS, SHOWN_CHARACTERS = 3, 6, 60
LONGEST = 200  # characters of a SELECT that is shown


def check_sql(gate: SqlGate) -> None:
    """Check that the gate's SQL is one SELECT, or names a bundled question.

    Raises
    ------
    InputError
        If it is not.
    """
    try:
        check_select(_sql(gate))
    except InputError as error:
        raise InputError(f"gates.sql, {gate.name}: {error}") from error


def sql_gate(warehouse: Warehouse, run_id: str, gate: SqlGate) -> GateOutcome:
    """The gate's outcome; where its SELECT cannot be answered it does not hold, and says why."""
    try:
        answer = query(warehouse, _sql(gate), run_id, max_rows=ROWS)
    except InputError as error:
        return GateOutcome(
            run_id, gate.name, gate.severity, False, None, 0.0, None, str(error), state="fails"
        )
    count = len(answer.rows)
    if not count:
        return GateOutcome(run_id, gate.name, gate.severity, True, 0.0, 0.0, None, "no row", state="holds")
    detail = (
        f"{'at least ' if answer.truncated else ''}{count} row{'s' if count > 1 else ''}{_first_rows(answer)}"
    )
    if len(gate.sql) <= LONGEST and not set('"\n`$') & set(gate.sql):
        detail += f'{SEE}calig query "{gate.sql}" --run {run_id}'
    return GateOutcome(
        *(run_id, gate.name, gate.severity, False, float(count), 0.0, None, detail),
        *(_doc_ids(answer), "fails"),
    )


def _sql(gate: SqlGate) -> str:
    if not gate.sql.strip().startswith("@"):
        return gate.sql
    question, given = asked(gate.sql)
    return question.sql_with(given)


def _first_rows(answer: QueryResult) -> str:
    """The first rows in words, cut to what can be read at a glance."""
    shown = []
    for row in answer.rows[:SHOWN_ROWS]:
        named = list(zip(answer.columns, row, strict=True))[:SHOWN_CELLS]
        shown.append(", ".join(f"{name} {_cell(value)}" for name, value in named))
    return f"{', the first' if len(answer.rows) > len(shown) else ''}: {'; '.join(shown)}"


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    text = number(float(value)) if isinstance(value, float | Decimal) else " ".join(cell(value).split())
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _doc_ids(answer: QueryResult) -> tuple[int, ...]:
    """The documents that the answer names in a column `doc_id`."""
    if "doc_id" not in answer.columns:
        return ()
    place = answer.columns.index("doc_id")
    return tuple(dict.fromkeys(row[place] for row in answer.rows if isinstance(row[place], int)))[:DOCUMENTS]
