"""What of an audit has moved slowly: its accuracy, watched terms and layer profile, followed over its complete runs.

The control itself is in `calig.comparison.sequential`. Here the numbers of the runs are read, and its alarms get words.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

import duckdb
import numpy as np

from calig.bootstrap import Doubles
from calig.comparison.sequential import Alarm, Control, control, detectable, fewest_runs, limit_of
from calig.config.history import GatesConfig, SlowDriftGate
from calig.errors import InputError
from calig.records import ALL_CLASSES
from calig.warehouse.database import records
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import IS_FINISHED, resolve_run

Group: TypeAlias = Literal["accuracy", "watched", "layers"]
Unit: TypeAlias = Literal["points", "logits", ""]

GATE = "slow_drift"
AHEAD = 30
"""Runs within which a lasting change should be found, where it is said what the control can see."""

_VARIES = 1e-9  # relative: a spread below it is rounding
_LAYER_KEYS = ("run_id", "class", "depth", "documents")


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is followed: its id and when it started."""

    run_id: str
    started: datetime

    @property
    def day(self) -> str:
        """When it started, as a reader says it."""
        return f"{self.started:%-d %B %Y}"


@dataclass(frozen=True, slots=True)
class Followed:
    """A metric over the runs, and what its control says.

    Attributes
    ----------
    metric, title
        Its name in `calig history`, and in words.
    group, unit
        What it belongs to, and what a change of it is counted in: points are hundredths of a share.
    values, weights
        (n,) one per run, NaN where there is none; documents that it is of.
    limit
        Of the control's sums.
    control
        The control after the last run.
    overlap
        Share of a run's documents that are in the run before too.
    """

    metric: str
    title: str
    group: Group
    unit: Unit
    values: Doubles
    weights: Doubles
    limit: float
    control: Control
    overlap: float = 0.0

    @property
    def missing_runs(self) -> int:
        """Further runs without which the control cannot find anything; 0 where there are enough."""
        return max(0, fewest_runs(self.limit, self.overlap) - self.control.runs)

    @property
    def detectable_size(self) -> float | None:
        """The smallest lasting change that `AHEAD` more runs find with 80 % power, in standard deviations of a run."""
        return detectable(self.limit, self.control.runs, AHEAD, self.overlap)

    @property
    def detectable(self) -> float | None:
        """The same in the metric's unit, of runs of as many documents as the last; None where it has not varied."""
        size, known = self.detectable_size, np.flatnonzero(np.isfinite(self.values) & (self.weights > 0))
        if size is None or not len(known):
            return None
        if not self.control.spread > _VARIES * np.abs(self.values[known]).max():
            return None
        return size * self.control.spread / float(np.sqrt(self.weights[known[-1]]))

    def around(self, alarm: Alarm) -> tuple[float | None, float | None]:
        """The means before the change and from it to the run that found it, documents being the weights."""
        earlier = [one.found + 1 for one in self.control.alarms if one.found < alarm.found]
        return (
            self._mean(max(earlier, default=0), alarm.since),
            self._mean(alarm.since, alarm.found + 1),
        )

    def _mean(self, first: int, end: int) -> float | None:
        known = np.isfinite(self.values[first:end]) & (self.weights[first:end] > 0)
        if not known.any():
            return None
        return float(np.average(self.values[first:end][known], weights=self.weights[first:end][known]))

    def written(self, value: float | None) -> str:
        """A value in the metric's unit: 87.3 %, +0.412 logits, 1.52."""
        if value is None:
            return "unknown"
        if self.unit == "points":
            return f"{value:.2%}"
        text = f"{value:+.3g} logits" if self.unit == "logits" else f"{value:.4g}"
        return text.replace("-", "−")

    def change(self, size: float) -> str:
        """A size of a change in the metric's unit: 2.3 points, 0.12 logits."""
        if self.unit == "points":
            points = f"{100 * size:.2g}"
            return f"{points} point{'' if points == '1' else 's'}"
        return f"{size:.2g} logits" if self.unit == "logits" else f"{size:.2g}"


@dataclass(frozen=True, slots=True)
class SlowDrift:
    """The runs that are followed, oldest first, and the metrics.

    `overlap` is the mean share of a run's documents that are in the run before too, as far as they were compared, None
    where no run was; `reused` the share that any earlier run had explained.
    """

    runs: tuple[Run, ...]
    followed: tuple[Followed, ...]
    overlap: float | None = None
    reused: float = 0.0

    @property
    def groups(self) -> list[Group]:
        """The groups that there is something to follow of."""
        return list(dict.fromkeys(one.group for one in self.followed))

    def alarms(self) -> list[tuple[Followed, Alarm]]:
        """All alarms, the newest first; those of one run in the order of the metrics."""
        found = [(one, alarm) for one in self.followed for alarm in one.control.alarms]
        return sorted(found, key=lambda pair: -pair[1].found)

    def sentence(self, followed: Followed, alarm: Alarm) -> str:
        """What was found in words: "accuracy has been lower since 3 November 2026; found on 20 November 2026"."""
        way = "higher" if alarm.direction > 0 else "lower"
        since, found = self.runs[alarm.since].day, self.runs[alarm.found].day
        newest = alarm == followed.control.alarms[-1]
        said = f"has been {way} since {since}" if newest else f"was {way} from {since} on"
        before, after = (followed.written(value) for value in followed.around(alarm))
        return f"{followed.title} {said} ({before} before, then {after}); found on {found}"


def follow(
    connection: duckdb.DuckDBPyConnection,
    audit: str,
    level: float,
    what: Sequence[Group] = ("accuracy", "watched", "layers"),
    since: str | None = None,
    until: str | None = None,
) -> SlowDrift:
    """Follow an audit's metrics over its complete runs, in the order in which they started.

    A run of the same corpus by the same model and method as the one before it says nothing new: of such runs in a row
    the last one counts. The layer profile is followed over runs of models with as many blocks as the last one's.

    Parameters
    ----------
    connection
        A connection with the aggregate tables, those of one run included.
    audit
        The audit's name.
    level
        Chance of a false alarm in a run, of all metrics together: shared evenly by the groups that there is something
        to follow of, and in a group by its metrics.
    what
        The groups.
    since
        Id of the run that the control begins with; None: the audit's first.
    until
        Id of the last run that counts; None: the newest complete one.

    Raises
    ------
    InputError
        If `since` is no complete run of the audit.
    """
    rows = _runs(connection, audit, until)
    ids = [row["run_id"] for row in rows]
    if since is not None:
        if since not in ids:
            raise InputError(
                f"gates.slow_drift.since: run {since} is no complete run of audit {audit} before this one; name another"
            )
        rows = rows[ids.index(since) :]
    overlap = _overlap(connection, [row["run_id"] for row in rows])
    rows = [
        row
        for row, after in zip(rows, [*rows[1:], None], strict=True)
        if after is None or _repeated(row) is None or _repeated(row) != _repeated(after)
    ]
    if not rows:
        return SlowDrift((), ())
    read = {"accuracy": _accuracy, "watched": _watched, "layers": _layers}
    found = [
        (group, own)
        for group in what
        if (own := [one for one in read[group](connection, rows) if _any(one[3])])
    ]
    followed: list[Followed] = []
    for group, own in found:
        limit = limit_of(len(found) * len(own) / level)
        values, weights = (np.stack([one[part] for one in own], axis=1) for part in (3, 4))
        states = control(values, weights, np.full(len(own), limit), overlap or 0.0)
        followed += [
            Followed(metric, title, group, unit, x, w, limit, state, overlap or 0.0)
            for (metric, title, unit, x, w), state in zip(own, states, strict=True)
        ]
    runs = tuple(Run(row["run_id"], row["started"]) for row in rows)
    later = rows[1:]
    explained = sum(_explained(row) for row in later)
    reused = sum(row["reused"] or 0 for row in later) / explained if explained else 0.0
    return SlowDrift(runs, tuple(followed), overlap, reused)


def stated(connection: duckdb.DuckDBPyConnection, warehouse: Warehouse, audit: str) -> SlowDrift:
    """Follow an audit as its newest complete run's gate `slow_drift` does; where it has none, as the default one would.

    A `since` whose run is gone is passed over: the control then begins with the first run that is left.
    """
    [run] = records(
        connection.execute(
            f"SELECT run_id, config FROM runs WHERE name = ? AND {IS_FINISHED} "
            "ORDER BY started DESC, run_id DESC LIMIT 1",
            [audit],
        )
    ) or [{"run_id": None, "config": None}]
    config = json.loads(run["config"] or "{}").get("gates") or {}
    gate = SlowDriftGate.model_validate(config.get(GATE) or {})
    rates = {name: config[name] for name in ("false_alarms_per_year", "runs_per_year") if name in config}
    [[level]] = connection.execute(
        "SELECT any_value(level) FROM gates WHERE run_id = ? AND gate = ?", [run["run_id"], GATE]
    ).fetchall()
    level = level or GatesConfig.model_validate(rates).night_level / 2  # beside the part of the comparisons
    try:
        since = None if gate.since is None else resolve_run(warehouse, gate.since)
        return follow(connection, audit, level, gate.what, since)
    except InputError:
        return follow(connection, audit, level, gate.what)


Read: TypeAlias = tuple[str, str, Unit, Doubles, Doubles]
Row: TypeAlias = dict[str, Any]


def _runs(connection: duckdb.DuckDBPyConnection, audit: str, until: str | None) -> list[Row]:
    rows = records(
        connection.execute(
            "SELECT r.run_id, started, head, depths, attribution_key, corpus_key, target, documents, failures, reused, "
            "accuracy, mean_absolute_error, labelled FROM runs AS r "
            "LEFT JOIN (SELECT run_id, sum(labelled) AS labelled FROM calig.main.class_stats GROUP BY run_id) AS c "
            "ON c.run_id = r.run_id "
            f"WHERE name = $audit AND ({IS_FINISHED} OR r.run_id = $until) ORDER BY started, r.run_id",
            {"audit": audit, "until": until},
        )
    )
    ids = [row["run_id"] for row in rows]
    return rows if until is None else rows[: ids.index(until) + 1]


def _overlap(connection: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> float | None:
    """The mean share of the documents that a run has in common with the run before, of runs that were compared."""
    before = {own: last for last, own in itertools.pairwise(ids)}
    shares = [
        paired / documents
        for own, reference, paired, documents in connection.execute(
            "SELECT run_id, reference_id, paired, documents_b FROM calig.main.comparisons "
            "WHERE documents_b > 0 AND list_contains(?::VARCHAR[], run_id)",
            [list(before)],
        ).fetchall()
        if before[own] == reference
    ]
    return sum(shares) / len(shares) if shares else None


def _repeated(row: Row) -> tuple[str, str, str] | None:
    """What a run's numbers follow from: its documents, model and method, and which class of each is explained."""
    key = row["corpus_key"], row["attribution_key"], row["target"]
    return None if None in key else key


def _explained(row: Row) -> float:
    return float((row["documents"] or 0) - (row["failures"] or 0))


def _accuracy(_connection: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> list[Read]:
    """Accuracy, of a regression its error; weights are the labelled documents where they are known."""
    regression = rows[-1]["head"] == "regression"
    metric, title = (
        ("mean_absolute_error", "the mean absolute error") if regression else ("accuracy", "accuracy")
    )
    # of several labels class_stats counts each
    counted = rows[-1]["head"] not in ("regression", "multi_label")
    weights = [float(row["labelled"]) if counted and row["labelled"] else _explained(row) for row in rows]
    return [(metric, title, "" if regression else "points", _of(rows, metric), np.array(weights))]


def _watched(connection: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> list[Read]:
    """Share of the relevance, and effect, of each list and term of the last run."""
    found = _by_run(
        connection,
        "SELECT run_id, list, term, share, effect, documents FROM calig.main.watched",
        rows,
        ("list", "term"),
    )
    read: list[Read] = []
    explained = np.array([_explained(row) for row in rows])
    for (listed, term), own in sorted(
        found.items(), key=lambda one: (one[0][0], one[0][1] != "*", one[0][1])
    ):
        metric, title = (listed, listed) if term == "*" else (f"{listed}/{term}", f"{term} ({listed})")
        read.append(
            (f"watched.share:{metric}", f"the share of {title}", "points", _of(own, "share"), explained)
        )
        read.append(
            (
                f"watched.effect:{metric}",
                f"the effect of {title}",
                "logits",
                _of(own, "effect"),
                _of(own, "documents"),
            )
        )
    return read


def _layers(connection: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> list[Read]:
    """Each measure of the layer profile at each depth of the last run."""
    found = _by_run(connection, "SELECT * FROM calig.main.layer_stats", rows, ("depth",))
    read: list[Read] = []
    for (depth,), own in found.items():
        own = [
            row if row and run["depths"] == rows[-1]["depths"] else None
            for row, run in zip(own, rows, strict=True)
        ]
        for measure in (name for name in own[-1] or {} if name not in _LAYER_KEYS):
            title = f"{measure.replace('_', ' ')} at depth {depth}"
            read.append((f"layer.{measure}:{depth}", title, "", _of(own, measure), _of(own, "documents")))
    return read


def _by_run(
    connection: duckdb.DuckDBPyConnection, select: str, rows: Sequence[Row], names: tuple[str, ...]
) -> dict[tuple[Any, ...], list[Row | None]]:
    """The rows of a table over all documents, one per run, by what they are of; only of what the last run has."""
    places = {row["run_id"]: place for place, row in enumerate(rows)}
    found: dict[tuple[Any, ...], list[Row | None]] = {}
    narrowed = f"{select} WHERE class = ? AND list_contains(?::VARCHAR[], run_id)"
    for row in records(connection.execute(narrowed, [ALL_CLASSES, list(places)])):
        own = found.setdefault(tuple(row[name] for name in names), [None] * len(rows))
        own[places[row["run_id"]]] = row
    return {key: own for key, own in sorted(found.items()) if own[-1] is not None}


def _of(rows: Sequence[Row | None], column: str) -> Doubles:
    """(n,) a column's values, NaN for null and no row."""
    values = [None if row is None else row[column] for row in rows]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _any(values: Doubles) -> bool:
    return bool(np.isfinite(values).any())
