"""Read an audit's nights: all its complete runs, oldest first, with what was measured of each. SQL is in `sql/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from urllib.parse import quote

import duckdb

from calig.errors import InputError
from calig.listing import children, is_file
from calig.report.fetch import Row, fetch
from calig.report.since import Gate
from calig.warehouse.layout import Warehouse


@dataclass(frozen=True, slots=True)
class Compared:
    """A night's comparison in short; `page` is its place from the trend page's folder, None if it is not there."""

    reference_id: str
    requested: str
    changed: bool
    words_changed: int | None
    layers_changed: int | None
    outcomes_changed: int | None
    class_psi: float | None
    layer_psi: float | None
    verdict: str
    page: str | None

    @property
    def kinds(self) -> frozenset[str]:
        """Of words, layers and outcomes, those that something is called changed in."""
        counts = {
            "words": self.words_changed,
            "layers": self.layers_changed,
            "outcomes": self.outcomes_changed,
        }
        return frozenset(kind for kind, count in counts.items() if count)


@dataclass(frozen=True, slots=True)
class Night:
    """A run in the audit's history.

    Attributes
    ----------
    run_id, day
        The run's id; when it started, or the date that its corpus is of, where the table says it.
    row
        Its row of `runs`.
    model_changed
        Whether its weights differ from those of the night before.
    tags
        Tags that name it.
    seconds
        What its stages took, in all; None if nothing says so.
    shares
        Share of the predictions, by class.
    layers
        By measure, then depth.
    watched
        (share, effect) by (list, term).
    gates, comparisons
        What it was held to and compared with.
    """

    run_id: str
    day: datetime
    row: Row
    model_changed: bool
    tags: tuple[str, ...]
    seconds: float | None
    shares: Mapping[str, float] = field(default_factory=dict)
    layers: Mapping[str, Mapping[int, float | None]] = field(default_factory=dict)
    watched: Mapping[tuple[str, str], tuple[float | None, float | None]] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    comparisons: tuple[Compared, ...] = ()

    @property
    def page(self) -> str:
        """Where its report is, from the trend page's folder."""
        return f"../../runs/{quote(self.run_id)}/report/index.html"

    @property
    def title(self) -> str:
        """Its date and time, as a reader says it."""
        clock = "" if self.day.time() == datetime.min.time() else f"{self.day:, %H:%M}"
        return f"{self.day:%-d %B %Y}{clock}"

    def number(self, column: str) -> float | None:
        """A number of its row of `runs`."""
        value = self.row.get(column)
        return None if value is None else float(value)


def collect(con: duckdb.DuckDBPyConnection, warehouse: Warehouse, name: str) -> list[Night]:
    """Read the nights of the audit `name`.

    Parameters
    ----------
    con
        A connection with the aggregate tables of all runs.
    warehouse, name
        Where, and the audit's name.

    Raises
    ------
    InputError
        If it has no complete run.
    """
    runs = fetch(con, "trend_runs", name=name)
    if not runs:
        raise InputError(
            f"audit {name!r}: no complete run in {warehouse.root}; `calig runs` lists what there is"
        )

    def by_run(query: str) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        for row in fetch(con, query, name=name):
            found.setdefault(row.pop("run_id"), []).append(row)
        return found

    classes, layers, watched = by_run("trend_classes"), by_run("trend_layers"), by_run("trend_watched")
    gates, comparisons, tags = by_run("trend_gates"), by_run("trend_comparisons"), tags_of(warehouse)
    nights = []
    for place, row in enumerate(runs):
        own = row["run_id"]
        before = runs[place - 1]["model_hash"] if place else row["model_hash"]
        nights.append(
            Night(
                run_id=own,
                day=_day(row),
                row=row,
                model_changed=row["model_hash"] != before,
                tags=tags.get(own, ()),
                seconds=_seconds(row["timings"]),
                shares={one["class"]: one["share"] for one in classes.get(own, ())},
                layers=_layers(layers.get(own, ())),
                watched={
                    (one["list"], one["term"]): (one["share"], one["effect"]) for one in watched.get(own, ())
                },
                gates=tuple(Gate.of(one) for one in gates.get(own, ())),
                comparisons=tuple(_compared(warehouse, own, one) for one in comparisons.get(own, ())),
            )
        )
    return nights


def tags_of(warehouse: Warehouse) -> dict[str, tuple[str, ...]]:
    """The tags of each run that has some, by its id; files that are not tags are passed over."""
    found: dict[str, tuple[str, ...]] = {}
    for path in children(warehouse.tags):
        try:
            own = json.loads(path.read_bytes())["run_id"]
        except (FileNotFoundError, IsADirectoryError, ValueError, TypeError, KeyError):
            continue
        found[str(own)] = (*found.get(str(own), ()), path.stem if path.suffix == ".json" else path.name)
    return found


def _day(row: Row) -> datetime:
    """The date that a run's corpus is of, where `runs` has such a column, else its start."""
    day = row.get("date")
    if isinstance(day, str) and day:
        day = datetime.fromisoformat(day)
    if isinstance(day, date) and not isinstance(day, datetime):
        day = datetime(day.year, day.month, day.day)
    started: datetime = row["started"]
    return day if isinstance(day, datetime) else started


def _seconds(timings: str | None) -> float | None:
    found = json.loads(timings) if timings else {}
    numbers = [value for value in found.values() if isinstance(value, int | float)]
    return float(sum(numbers)) if numbers else None


def _layers(rows: Sequence[Row]) -> dict[str, dict[int, float | None]]:
    measures = [name for name in (rows[0] if rows else {}) if name != "depth"]
    return {name: {row["depth"]: row[name] for row in rows} for name in measures}


def _compared(warehouse: Warehouse, own: str, row: dict[str, Any]) -> Compared:
    reference = row["reference_id"]
    there = is_file(warehouse.comparison(own, reference) / "index.html")
    page = f"../../runs/{quote(own)}/comparisons/{quote(reference)}/index.html" if there else None
    return Compared(**{**row, "verdict": row["verdict"] or ""}, page=page)
