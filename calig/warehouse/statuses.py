"""The state that a run, or an evaluation, is in now: its manifest says it; the tables' row says what it was.

The row of a finished run is true for good. Of every other run, and of evaluations, which may be taken up again, the
manifest is read when a connection opens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import duckdb

from calig.errors import InputError
from calig.warehouse.catalog import quote
from calig.warehouse.evaluations import EvaluationManifest, read_evaluation
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import IS_FINISHED, RunManifest, read_run, utc

_READ: dict[str, tuple[str, str, Callable[[Warehouse, str], RunManifest | EvaluationManifest]]] = {
    "runs": ("run_id", f"NOT coalesce({IS_FINISHED}, false)", read_run),
    "evaluations": ("evaluation_id", "true", read_evaluation),
}
"""Table → the column of the id, which rows may say something else than their manifests, and what reads those."""


def _changed(
    connection: duckdb.DuckDBPyConnection, warehouse: Warehouse, table: str
) -> list[tuple[str, str, str]]:
    """Return (id, status, time of its end or null, in SQL) of the table's rows that may say something else."""
    column, which, read = _READ[table]
    rows = connection.execute(f"SELECT {column} FROM {table} WHERE {which}").fetchall()
    changed = []
    for (own,) in rows:
        try:
            manifest = read(warehouse, own)
        except InputError:  # gone or damaged, which is said elsewhere
            continue
        end = "NULL" if manifest.finished is None else quote(str(utc(manifest.finished)))
        changed.append((own, manifest.status, f"{end}::TIMESTAMP"))
    return changed


def status_views(
    connection: duckdb.DuckDBPyConnection, warehouse: Warehouse, shown: Mapping[str, str]
) -> dict[str, str]:
    """Return the SELECT behind each table whose rows are not all of finished ones, with their states as they are now.

    `shown` are the SELECTs behind tables of an earlier version, which these are made from.
    """
    found = {}
    for table, (column, *_) in _READ.items():
        changed = _changed(connection, warehouse, table)
        if changed:
            values = ", ".join(f"({quote(own)}, {quote(status)}, {end})" for own, status, end in changed)
            rows = shown.get(table, f"SELECT * FROM calig.main.{table}")
            found[table] = (
                "SELECT t.* REPLACE (coalesce(now.status, t.status) AS status, "
                f"if(now.status IS NULL, t.finished, now.finished) AS finished) FROM ({rows}) AS t "
                f"LEFT JOIN (VALUES {values}) AS now (id, status, finished) ON now.id = t.{column}"
            )
    return found


def show_statuses(
    connection: duckdb.DuckDBPyConnection, warehouse: Warehouse, shown: Mapping[str, str]
) -> dict[str, str]:
    """Show states as they are now on a connection that has the tables attached; return all SELECTs behind tables."""
    views = status_views(connection, warehouse, shown)
    for table, rows in views.items():
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS {rows}")
    return {**shown, **views}


def settle_statuses(connection: duckdb.DuckDBPyConnection, warehouse: Warehouse) -> None:
    """Write states as they are now into the tables, so that those of finished runs need not be read again."""
    for table, (column, *_) in _READ.items():
        for own, status, end in _changed(connection, warehouse, table):
            connection.execute(
                f"UPDATE {table} SET status = ?, finished = {end} WHERE {column} = ?", [status, own]
            )
