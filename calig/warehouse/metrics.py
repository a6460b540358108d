"""What is measured of an audit night after night, by name: the numbers of its complete runs.

A metric is a numeric column of `runs` or `comparisons` (`accuracy`, `class_psi`); a number of a watched term over all
documents, `watched.share:LIST/TERM` (the list alone: all its terms); of the layer profile over all documents,
`layer.special_share:3`; or a gate's value, `gate:min_accuracy`. Those of comparisons, and of gates about one, are one
number per run compared with.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import duckdb

from calig.errors import InputError
from calig.warehouse.catalog import name as quoted
from calig.warehouse.runs import IS_FINISHED

NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE")
SUGGESTIONS = 4
WATCHED = ("share", "document_share", "effect", "documents", "occurrences")
"""Numbers of a watched term that are metrics."""


@dataclass(frozen=True, slots=True)
class Point:
    """A metric's value in one run; `against` is how the run compared with was asked for, of metrics that have one."""

    run_id: str
    started: datetime
    value: float | None
    against: str | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that there is, and its newest value."""

    name: str
    newest: Point


def audit_names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the names of the audits that have complete runs, that of the newest run first."""
    rows = connection.execute(
        f"SELECT name FROM runs WHERE {IS_FINISHED} GROUP BY name ORDER BY max(started) DESC, name"
    ).fetchall()
    return [str(row[0]) for row in rows]


def series(
    connection: duckdb.DuckDBPyConnection, metric: str, audit: str, last: int | None = None
) -> list[Point]:
    """Return a metric's values over the complete runs of an audit, oldest first.

    Parameters
    ----------
    connection
        A connection with the aggregate tables of all runs.
    metric
        Its name.
    audit
        The audit's name.
    last
        Only so many runs, the newest ones; None: all.

    Raises
    ------
    InputError
        If there is no such metric of this audit; names those that are written alike.
    """
    points = _query(connection, metric, audit)
    if not points:
        known = [one.name for one in metrics(connection, audit)]
        close = [one for one in known if metric and metric in one] or difflib.get_close_matches(
            metric, known, SUGGESTIONS, 0.4
        )
        hint = f"did you mean {', '.join(close[:SUGGESTIONS])}?" if close else "there is nothing of that name"
        raise InputError(
            f"metric {metric}: not measured of audit {audit}; {hint} (`calig history` lists all)"
        )
    runs = list(dict.fromkeys(point.run_id for point in points))
    kept = set(runs if last is None else runs[-last:])
    return [point for point in points if point.run_id in kept]


def metrics(connection: duckdb.DuckDBPyConnection, audit: str) -> list[Metric]:
    """Return every metric that an audit has a value of, each with its newest one."""
    names = [*_columns(connection, "runs"), *_columns(connection, "comparisons")]

    def listed(sql: str, write: Callable[..., list[str]]) -> None:
        for row in connection.execute(sql, [audit]).fetchall():
            names.extend(write(*row))

    ours = f"run_id IN (SELECT run_id FROM runs WHERE name = ? AND {IS_FINISHED})"
    listed(
        f"SELECT DISTINCT list, term FROM watched WHERE class = '*' AND {ours} ORDER BY list, term <> '*', term",
        lambda lst, term: [f"watched.{what}:{lst}" + ("" if term == "*" else f"/{term}") for what in WATCHED],
    )
    listed(
        f"SELECT max(depth) FROM layer_stats WHERE class = '*' AND {ours}",
        lambda deepest: [
            f"layer.{measure}:{depth}"
            for measure in _columns(connection, "layer_stats", ("depth", "documents"))
            for depth in range((-1 if deepest is None else deepest) + 1)
        ],
    )
    listed(f"SELECT DISTINCT gate FROM gates WHERE {ours} ORDER BY gate", lambda gate: [f"gate:{gate}"])
    found = []
    for one in dict.fromkeys(names):
        known = [point for point in _query(connection, one, audit) if point.value is not None]
        if known:
            found.append(Metric(one, known[-1]))
    return found


def _columns(connection: duckdb.DuckDBPyConnection, table: str, less: tuple[str, ...] = ()) -> list[str]:
    rows = connection.execute(f"DESCRIBE {table}").fetchall()
    return [row[0] for row in rows if row[1] in NUMERIC and row[0] not in less]


def _names(requested: str) -> str:
    """SQL of a row for each name that a reference was asked for by, as previous and a tag; one, null, for none."""
    return f"unnest(coalesce(string_split({requested}, ', '), [NULL]))"


def _query(connection: duckdb.DuckDBPyConnection, metric: str, audit: str) -> list[Point]:
    """The points of a metric; none if it is not one, or has none."""
    kind, _, rest = metric.partition(":")
    table, _, column = kind.partition(".")
    where, parameters, against = "", [], "NULL"
    if not rest and metric in _columns(connection, "runs"):
        source, value = "runs r", f"r.{quoted(metric)}"
    elif not rest and metric in _columns(connection, "comparisons"):
        source, value = "runs r JOIN comparisons t USING (run_id)", f"t.{quoted(metric)}"
        against = _names("coalesce(t.requested, t.reference_id)")
    elif table == "watched" and column in WATCHED and rest:
        listed, _, term = rest.partition("/")
        source, value = "runs r JOIN watched t USING (run_id)", f"t.{quoted(column)}"
        where, parameters = "AND t.class = '*' AND t.list = ? AND t.term = ?", [listed, term or "*"]
    elif table == "layer" and rest.isdecimal() and column in _columns(connection, "layer_stats", ("depth",)):
        source, value = "runs r JOIN layer_stats t USING (run_id)", f"t.{quoted(column)}"
        where, parameters = "AND t.class = '*' AND t.depth = ?", [rest]
    elif kind == "gate" and rest:
        source, value = "runs r JOIN gates t USING (run_id)", "t.value"
        against = _names(
            "coalesce((SELECT any_value(c.requested) FROM comparisons c WHERE c.run_id = t.run_id "
            "AND c.reference_id = t.reference_id), t.reference_id)"
        )
        where, parameters = "AND t.gate = ?", [rest]
    else:
        return []
    rows = connection.execute(
        f"SELECT r.run_id, r.started, ({value})::DOUBLE AS value, {against} AS against FROM {source} "
        f"WHERE r.name = ? AND r.{IS_FINISHED} {where} ORDER BY r.started, r.run_id, against",
        [audit, *parameters],
    ).fetchall()
    return [Point(*row) for row in rows]
