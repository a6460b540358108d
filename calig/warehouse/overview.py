"""The runs at a glance: what `calig runs` lists."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from calig.errors import InputError
from calig.warehouse.lacking import say_unlisted
from calig.warehouse.layout import Warehouse
from calig.warehouse.lost import is_lost
from calig.warehouse.query import open_tables
from calig.warehouse.runs import RunManifest, list_runs, utc
from calig.warehouse.tags import list_tags


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run as it is listed.

    Attributes
    ----------
    run
        The run.
    status
        Its manifest's. Where its process died: "lost" in place of running, else with "stopped": the next audit
        finishes it.
    tags
        Its tags.
    accuracy
        Share of labelled documents predicted right; None without labels, and while there are no tables of the run.
    failed_gates
        Number of gates that do not hold, by what becomes of them: "error", "warn" or, of those that do neither, their
        state: "not checked", "too few documents". None where the run has no gates.
    seconds
        How long it took; None while it runs.
    """

    run: RunManifest
    status: str
    tags: tuple[str, ...]
    accuracy: float | None
    failed_gates: dict[str, int] | None
    seconds: float | None


def overview(warehouse: Warehouse) -> list[RunLine]:
    """Return all runs, unfinished ones too, newest first."""
    accuracies = _accuracies(warehouse)
    tags: dict[str, list[str]] = {}
    for tag, run_id in list_tags(warehouse).items():
        tags.setdefault(run_id, []).append(tag)
    return [
        RunLine(
            run,
            _status(warehouse, run),
            tuple(tags.get(run.run_id, ())),
            accuracies.get(run.run_id),
            _failed_gates(warehouse, run.run_id),
            None if run.finished is None else (utc(run.finished) - run.started_at).total_seconds(),
        )
        for run in reversed(list_runs(warehouse))
    ]


def _status(warehouse: Warehouse, run: RunManifest) -> str:
    if not is_lost(warehouse, run):
        return run.status
    return "lost" if run.status == "running" else f"{run.status}, stopped"


def _accuracies(warehouse: Warehouse) -> dict[str, float]:
    """Accuracy by run id, of the runs that have one; none where the tables cannot be read."""
    try:
        with closing(open_tables(warehouse)) as connection:
            say_unlisted(connection, warehouse)
            return dict(
                connection.execute("SELECT run_id, accuracy FROM runs WHERE accuracy IS NOT NULL").fetchall()
            )
    except InputError:
        return {}


def _failed_gates(warehouse: Warehouse, run_id: str) -> dict[str, int] | None:
    try:
        rows = json.loads((warehouse.run(run_id) / "gates.json").read_bytes())
        return dict(Counter(_kind(row) for row in rows if row["passed"] is not True))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _kind(row: dict[str, Any]) -> str:
    fails = row["passed"] is False or (row["severity"] == "error" and row.get("state") == "not checked")
    return str(row["severity"] if fails else row.get("state") or "not checked")
