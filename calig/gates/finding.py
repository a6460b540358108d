"""A number that a gate looks at, and what becomes of it: held to its limit, and put into words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import duckdb

from calig.config import Limit
from calig.warehouse.database import records
from calig.warehouse.gates import SEE, GateOutcome, GateState

DOCUMENTS = 20
"""Documents that are named where a gate does not hold."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """The run that is checked, and a connection to its tables and views."""

    run_id: str
    connection: duckdb.DuckDBPyConnection

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """Answer a SELECT of our own, a row as column → value."""
        return records(self.connection.execute(sql, list(values)))

    def documents(self, sql: str, *values: Any) -> tuple[int, ...]:
        """The first of the documents that a SELECT of `doc_id` gives."""
        return tuple(row["doc_id"] for row in self.rows(f"{sql} LIMIT {DOCUMENTS}", *values))

    def see(self, sql: str) -> str:
        """Where to look."""
        return f'{SEE}calig query "{sql}" --run {self.run_id}'


@dataclass(frozen=True, slots=True)
class Finding:
    """What a gate with a limit finds.

    Attributes
    ----------
    value
        The number; None, or NaN, where there is none.
    text
        What was found; {value} and {limit} stand for the two numbers.
    missing
        Why there is no number, where there may be none.
    look, documents
        Where the gate does not hold: a SELECT that shows more, and one of the `doc_id` of documents that show it.
    share
        Whether the number is a share, to be written in per cent.
    least
        Whether the limit is the least that may be, not the most.
    reference_id
        The run that was compared with.
    """

    value: float | None
    text: str
    missing: str = ""
    look: str = ""
    documents: str = ""
    share: bool = False
    least: bool = False
    reference_id: str | None = None

    def held_to(self, limit: Limit, gate: str, checked: Checked) -> GateOutcome:
        """The gate's outcome."""
        run_id, severity, number = checked.run_id, limit.severity, limit.limit
        if self.value is None or math.isnan(self.value):
            return GateOutcome(
                run_id,
                gate,
                severity,
                None,
                None,
                number,
                self.reference_id,
                self.missing,
                state="not checked",
            )
        beyond = number - self.value if self.least else self.value - number
        passed = beyond <= 1e-9 * max(1.0, number)  # 0.9 - 0.88 is a little more than 0.02
        detail = self._words(self.value, number) + ("" if passed else checked.see(self.look))
        documents = checked.documents(self.documents) if self.documents and not passed else ()
        state: GateState = "holds" if passed else "fails"
        return GateOutcome(
            run_id, gate, severity, passed, self.value, number, self.reference_id, detail, documents, state
        )

    def _words(self, value: float, limit: float) -> str:
        """The text with its numbers, with as many digits as tell them apart."""
        one = other = ""
        for digits in range(1, 8):
            form = f".{digits}%" if self.share else f".{digits + 2}g"
            one, other = format(value, form), format(limit, form)
            if one != other or math.isclose(value, limit, rel_tol=1e-9):
                break
        return self.text.replace("{value}", one).replace("{limit}", other)
