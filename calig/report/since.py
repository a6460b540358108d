"""What a report says of gates, of changes since other runs, and of watched terms; SQL is in `sql/`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import quote

import duckdb

from calig.commands import complete
from calig.report import changes_prose
from calig.report.fetch import Row, fetch
from calig.report.formats import integer, number, plain
from calig.report.model import LayerRow
from calig.warehouse.gates import SEE

TOP_WORDS = 6
"""Changed words named per comparison."""

TERMS = 40
"""Watched terms shown per list and explained class."""
WATCHED = 3_000
"""Rows of watched terms shown in all."""

GateState = Literal["fails", "warns", "unchecked", "holds"]
_ORDER: tuple[GateState, ...] = ("fails", "warns", "unchecked", "holds")


@dataclass(frozen=True, slots=True)
class Offender:
    """A document that shows why a gate does not hold; `failure` is why it could not be explained, if so."""

    doc_id: int
    source_id: str
    failure: str | None


@dataclass(frozen=True, slots=True)
class Gate:
    """A row of the table `gates`."""

    name: str
    severity: str
    passed: bool | None
    value: float | None
    limit: float | None
    reference_id: str | None
    detail: str
    offenders: tuple[Offender, ...] = ()
    recorded: str | None = None  # the column `state`; null of runs of earlier versions, as those that follow
    level: float | None = None
    chance: float | None = None
    cannot_see: str | None = None

    @classmethod
    def of(cls, row: Row, offenders: tuple[Offender, ...] = ()) -> Gate:
        """The gate in a row."""
        return cls(
            row["gate"],
            row["severity"],
            row["passed"],
            row["value"],
            row["limit"],
            row["reference_id"],
            row["detail"] or "",
            offenders,
            *(row[name] for name in ("state", "level", "chance", "cannot_see")),
        )

    @property
    def state(self) -> GateState:
        """Whether it holds, and how bad it is if not; one with too few documents to tell counts as unchecked."""
        if self.recorded == "not checked" and self.severity == "error":
            return "fails"
        if self.passed is None or self.recorded == "too few documents":
            return "unchecked"
        return "holds" if self.passed else "warns" if self.severity == "warn" else "fails"

    @property
    def said(self) -> str:
        """The state in words."""
        if self.recorded == "too few documents":
            return self.recorded
        if self.passed is None:
            return "fails: not checked" if self.state == "fails" else "not checked"
        return self.state

    @property
    def by_chance(self) -> str:
        """How often it fails where nothing changed, and what it could not have seen; empty where that is not known."""
        said = []
        if self.cannot_see is not None:
            said.append(f"Cannot see {self.cannot_see}.")
        if self.level is not None:
            said.append(f"Where nothing changed, it fails in {_odds(self.level)}.")
        if self.chance is not None:
            said.append(
                f"Where nothing changed, chance crosses this limit in {_odds(self.chance)} of this size."
            )
        return " ".join(said)

    @property
    def measured(self) -> str:
        """Its value and limit, told apart: `0.012, at most 0.05`; `0.2505, at most 0.25`."""
        value = ""
        if self.value is not None:
            told_apart = (n for n in range(3, 8) if float(f"{self.value:.{n}g}") != self.limit)
            digits = 3 if self.value == self.limit else next(told_apart, 8)
            value = integer(self.value) if self.value.is_integer() else number(self.value, digits)
        bound = "at least" if self.name.startswith("min_") else "at most"
        return ", ".join(filter(None, (value, "" if self.limit is None else f"{bound} {plain(self.limit)}")))


def told(detail: str, warehouse: str) -> tuple[str, str]:
    """What a gate found, and the command that shows more, as it runs in this warehouse; "" where there is none."""
    finding, see, command = complete(detail, warehouse).rpartition(SEE)
    return (finding, command) if see else (command, "")


def _odds(chance: float) -> str:
    """A chance in words: in 12 % of runs, in one of 1,460 runs."""
    if chance > 0.99:
        return "nearly every run" if chance < 1 else "every run"
    if chance >= 0.01:
        return f"{100 * chance:.2g} % of runs"
    return f"one of {integer(round(1 / chance))} runs" if chance > 1e-6 else "no run"


@dataclass(frozen=True, slots=True)
class ChangedWord:
    """A word that changed most: its class, how it changed, and its effects in logits."""

    label: str
    word: str
    change: str | None
    effect_a: float | None
    effect_b: float | None


@dataclass(frozen=True, slots=True)
class Since:
    """A comparison in short: with which run, its verdict, and the words that changed most."""

    reference_id: str
    requested: str
    started: datetime | None
    changed: bool
    words_changed: int
    layers_changed: int
    outcomes_changed: int
    verdict: str
    words: tuple[ChangedWord, ...]
    flips: int | None = None
    differences: Sequence[str] = ()

    @property
    def state(self) -> tuple[str, str]:
        """The comparison as (CSS class, words)."""
        return changes_prose.state(self)

    @property
    def finding(self) -> str:
        """What matters most of it; in words of its state where no verdict says so."""
        first = self.verdict.partition("; ")[0].replace(" %", "\u00a0%")
        return f"{first or self.state[1].lower()}."

    @property
    def page(self) -> str:
        """Where the comparison's page is, from the report's folder."""
        return f"../comparisons/{quote(self.reference_id)}/index.html"


@dataclass(frozen=True, slots=True)
class Watched:
    """A watched term in one explained class (`*`: all), and what it was in the run compared with."""

    listed: str
    term: str
    label: str
    documents: int
    document_share: float | None
    share: float | None
    effect: float | None
    low: float | None
    high: float | None
    share_before: float | None
    effect_before: float | None


@dataclass(frozen=True, slots=True)
class Opening:
    """What the report's first screen says besides the run's own numbers.

    `behind` is the layer profile of the run compared with, `nights` how many complete runs the audit has.
    """

    gates: tuple[Gate, ...] = ()
    changes: tuple[Since, ...] = ()
    watched: tuple[Watched, ...] = ()
    behind: tuple[LayerRow, ...] = ()
    nights: int = 0

    @property
    def offending(self) -> list[int]:
        """Rows of the documents that show why gates do not hold, those of failing gates first."""
        bad = [gate for gate in self.gates if gate.state != "holds"]
        return list(dict.fromkeys(one.doc_id for gate in bad for one in gate.offenders if not one.failure))

    @property
    def compared(self) -> Since | None:
        """The comparison whose reference the charts and watched terms show."""
        return self.changes[0] if self.changes else None


def collect(tables: duckdb.DuckDBPyConnection, con: duckdb.DuckDBPyConnection, run_id: str) -> Opening:
    """Read gates, comparisons and watched terms of a run.

    Parameters
    ----------
    tables
        A connection with the aggregate tables of all runs.
    con
        A connection with the views of this run.
    run_id
        The run's full id.
    """
    words: dict[str, list[ChangedWord]] = {}
    for row in fetch(tables, "since_words", run=run_id, limit=TOP_WORDS):
        reference = row.pop("reference_id")
        words.setdefault(reference, []).append(ChangedWord(row.pop("class"), **row))
    changes = tuple(
        Since(
            reference_id=row["reference_id"],
            requested=row["requested"] or row["reference_id"],
            started=row["started"],
            changed=bool(row["changed"]),
            words_changed=row["words_changed"] or 0,
            layers_changed=row["layers_changed"] or 0,
            outcomes_changed=row["outcomes_changed"] or 0,
            verdict=row["verdict"] or "",
            words=tuple(words.get(row["reference_id"], ())),
            flips=row["flips"],
            differences=changes_prose.differences(row["differences"]),
        )
        for row in fetch(tables, "since_comparisons", run=run_id)
    )
    reference = changes[0].reference_id if changes else ""
    both = {"run": run_id, "reference": reference}
    return Opening(
        gates=_gates(tables, con, run_id),
        changes=changes,
        watched=tuple(
            Watched(*row.values())
            for row in fetch(tables, "since_watched", terms=TERMS, limit=WATCHED, **both)
        ),
        behind=tuple(LayerRow(row.pop("class"), **row) for row in fetch(tables, "since_layers", **both)),
        nights=fetch(tables, "since_nights", run=run_id)[0]["runs"],
    )


def _gates(
    tables: duckdb.DuckDBPyConnection, con: duckdb.DuckDBPyConnection, run_id: str
) -> tuple[Gate, ...]:
    """The gates, those that do not hold first."""
    rows = fetch(tables, "since_gates", run=run_id)
    shown = sorted({doc_id for row in rows for doc_id in row.get("documents") or ()})
    known = {
        row["doc_id"]: Offender(row["doc_id"], str(row["source_id"]), row["failure"])
        for row in (fetch(con, "since_documents", run=run_id, docs=shown) if shown else ())
    }
    found = [
        Gate.of(row, tuple(known[doc_id] for doc_id in row.get("documents") or () if doc_id in known))
        for row in rows
    ]
    return tuple(sorted(found, key=lambda gate: _ORDER.index(gate.state)))


def verdict(gates: Sequence[Gate]) -> tuple[str, str]:
    """All gates in a few words, as (CSS class, words); there must be one."""
    counts = {state: sum(gate.state == state for gate in gates) for state in _ORDER}
    if counts["fails"]:
        failing = [gate.name for gate in gates if gate.state == "fails"]
        return "bad", f"Gate failed: {failing[0]}" if len(failing) == 1 else (
            f"{len(failing)} of {len(gates)} gates failed"
        )
    said = Counter(gate.said for gate in gates)
    notes = [
        text
        for text in (
            f"{counts['warns']} warning{'' if counts['warns'] == 1 else 's'}" if counts["warns"] else "",
            *(f"{said[words]} {words}" for words in ("not checked", "too few documents") if said[words]),
        )
        if text
    ]
    passed = "Gates passed" if counts["holds"] or counts["warns"] else "No gate failed"
    return ("warn" if notes else "good"), ", ".join([passed, *notes])
