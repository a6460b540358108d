"""A user's SQL over a run, locked down: it reads that run's files and calig.duckdb and nothing else."""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import duckdb
import pyarrow.parquet as pq

from calig.errors import InputError
from calig.rows import unique_names
from calig.warehouse.catalog import EVALUATION_TABLES, TABLES, VIEWS, about, name, quote
from calig.warehouse.database import attach, is_damage, reporting_disk
from calig.warehouse.evaluations import list_evaluations
from calig.warehouse.guard import check_select, sql_error
from calig.warehouse.lacking import say_unlisted
from calig.warehouse.layout import Warehouse
from calig.warehouse.pins import pinned_runs
from calig.warehouse.runs import list_runs, resolve_run
from calig.warehouse.statuses import show_statuses, status_views
from calig.warehouse.views import RunFiles, create_views, run_files, view_queries

FETCH = 2048  # rows
MAX_OUTPUT = 64 * 2**20  # characters of text in the answer
_OF_DOCUMENTS = frozenset(("run_id", "doc_id", "source_id", "doc_key", "label"))
"""Columns of a run's documents.parquet that are not the corpus's own."""
TRIES = 3
"""How often the files of a run are found, where one is gone when it is read."""
_GONE = ("No files found", "No such file")
_PIVOTED = "calig_pivoted"
"""The temporary table that holds the answer of a PIVOT which does not name its values."""
T = TypeVar("T")
Config = dict[str, str | bool | int | float | list[str]]
SAFE: Config = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
}
_ROUNDED_BY_PYTHON = frozenset(
    (
        *("date", "time", "time with time zone", "time_ns", "interval", "blob", "bit", "uuid"),
        *("timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone"),
    )
)
"""DuckDB's names of the types whose values are given as text."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """An answer.

    Attributes
    ----------
    columns
        Unique names: of two columns called text the second is text_1.
    types
        DuckDB's types of the columns.
    rows
        Python values; dates, times, intervals and bytes are text as DuckDB writes them, since Python's are coarser.
    truncated
        Whether rows beyond the limit were left off.
    """

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]
    truncated: bool


def query(
    warehouse: Warehouse,
    sql: str,
    run: str = "latest",
    *,
    seconds: float = 60,
    memory: str = "2GB",
    threads: int | None = None,
    max_rows: int = 100_000,
) -> QueryResult:
    """Answer one SELECT over the tables of calig.duckdb and the views of a run.

    Parameters
    ----------
    warehouse, sql
        Where, and what.
    run
        The run that views and tables show: what `resolve_run` takes, or "all". `runs` shows all,
        and so do the tables of evaluations. Where there are evaluations and no run, there are no views.
    seconds, memory, threads
        Limits; `memory` as DuckDB writes it; `threads` None is one per core. The clock is looked at between
        chunks of rows: one call of a function on huge values is not cut short.
    max_rows
        Rows beyond these are left off.

    Raises
    ------
    InputError
        If there is no such run, the aggregates are missing or damaged, the SQL is wrong or is not one SELECT,
        or a limit is reached; says which, and what to do.
    """
    pivots = check_select(sql)
    config: Config = {**SAFE, "memory_limit": memory}
    if threads is not None:
        config["threads"] = threads

    def ask() -> QueryResult:
        with tempfile.TemporaryDirectory(prefix="calig-query-") as spill:
            own: Config = {**config, "temp_directory": spill, "max_temp_directory_size": "8GB"}
            with (
                _connect(own) as connection,
                reporting_disk(warehouse.database),
                _pinned(warehouse, run) as runs,
            ):
                _prepare(connection, warehouse, runs)
                say_unlisted(connection, warehouse)
                files = ", ".join(quote(path) for item in runs for path in item.allowed)
                connection.execute(f"SET allowed_paths = [{files}]")
                connection.execute("SET enable_external_access = false")
                connection.execute("SET lock_configuration = true")
                return _answer(connection, sql, pivots, seconds, memory, max_rows)

    return _while_files_move(ask)


def open_run(warehouse: Warehouse, run_id: str) -> duckdb.DuckDBPyConnection:
    """Open the aggregates, read-only, with the views of a run, for SQL of our own: it is not locked down.

    All but `runs` show that run alone. The caller closes the connection. The run's files are pinned as long as there is
    the connection (`calig.warehouse.pins`).

    Raises
    ------
    InputError
        If the run, its files or the aggregates are missing or damaged.
    """

    def opened() -> duckdb.DuckDBPyConnection:
        with ExitStack() as pins:
            pins.enter_context(pinned_runs(warehouse, run_id))
            connection = duckdb.connect(config={**SAFE})
            try:
                _prepare(connection, warehouse, [run_files(warehouse, run_id)])
            except BaseException:
                connection.close()
                raise
            weakref.finalize(connection, pins.pop_all().close)
            return connection

    return _while_files_move(opened)


def open_tables(warehouse: Warehouse) -> duckdb.DuckDBPyConnection:
    """Open the aggregates alone, read-only, for SQL of our own; the caller closes the connection.

    Raises
    ------
    InputError
        If the aggregates are missing or damaged.
    """
    connection = duckdb.connect(config={**SAFE})
    try:
        show_statuses(connection, warehouse, attach(connection, warehouse.database))
    except BaseException:
        connection.close()
        raise
    return connection


def ddl(warehouse: Warehouse, run: str = "latest") -> str:
    """Return SQL that attaches the aggregates and makes a run's views, for other tools that speak DuckDB."""
    lines = [f"ATTACH IF NOT EXISTS {quote(str(warehouse.database))} AS calig (READ_ONLY);", "USE calig;"]
    with duckdb.connect(config={**SAFE}) as connection:
        views = status_views(connection, warehouse, attach(connection, warehouse.database))
    with _pinned(warehouse, run) as runs:
        for view, select in {**views, **(view_queries(runs) if runs else {})}.items():
            lines.append(f"CREATE OR REPLACE TEMP VIEW {view} AS\n{select};")
    return "\n\n".join(lines) + "\n"


def describe(warehouse: Warehouse, run: str = "latest") -> list[tuple[str, str, str, str]]:
    """Return (table or view, column, type, meaning) of all there is to query, views first.

    The first row of each has an empty column and says what the table or view is.
    """
    listing: list[tuple[str, str, str, str]] = []
    with _connect({**SAFE}) as connection, _pinned(warehouse, run) as runs:
        _prepare(connection, warehouse, runs)
        say_unlisted(connection, warehouse)
        for table in (*(VIEWS if runs else ()), *TABLES, *EVALUATION_TABLES):
            listing.append((table, "", "view" if table in VIEWS else "table", about(table)))
            for column, kind, *_ in connection.execute(f"DESCRIBE {name(table)}").fetchall():
                listing.append((table, column, kind, about(table, column)))
    return listing


def corpus_columns(warehouse: Warehouse, run: str = "latest") -> tuple[list[str], list[str]]:
    """Return the columns of `documents`, and those among them that are the corpus's own."""
    with _connect({**SAFE}) as connection, _pinned(warehouse, run) as runs:
        _prepare(connection, warehouse, runs)
        if not runs:
            return [], []
        there = [str(row[0]) for row in connection.execute("DESCRIBE documents").fetchall()]
        corpus = {column for item in runs for column in pq.read_schema(item.documents).names} - _OF_DOCUMENTS
    return there, [column for column in there if column in corpus]


@contextmanager
def _pinned(warehouse: Warehouse, run: str) -> Iterator[list[RunFiles]]:
    """Give the files of the runs that `run` names, which stay within the `with` block."""
    run_ids = _named(warehouse, run)
    with pinned_runs(warehouse, *run_ids):
        yield [run_files(warehouse, run_id) for run_id in run_ids]


def _while_files_move(read: Callable[[], T]) -> T:
    """Read files, and find them again where one is gone.

    Where files cannot be pinned, a compaction may delete them between their listing and their reading.
    """
    for _ in range(TRIES):
        try:
            return read()
        except (FileNotFoundError, duckdb.IOException) as error:
            if not _is_gone(error):
                raise
            gone = error
    raise InputError(
        f"a file of the run was deleted while it was read ({str(gone).splitlines()[0]}): run the command again"
    ) from gone


def _is_gone(error: BaseException) -> bool:
    """Whether a file that was listed is there no more."""
    return isinstance(error, FileNotFoundError) or (
        isinstance(error, duckdb.IOException) and any(text in str(error) for text in _GONE)
    )


def _named(warehouse: Warehouse, run: str) -> list[str]:
    """Find the id of the run that `run` names, or of all complete ones; none where there are but evaluations."""
    if run not in ("latest", "all"):
        return [resolve_run(warehouse, run)]
    complete = [item.run_id for item in list_runs(warehouse) if item.is_finished]
    if not complete and list_evaluations(warehouse):
        return []
    if run == "latest":
        return [resolve_run(warehouse, run)]
    if not complete:
        raise InputError(f"no complete runs in {warehouse.root}: run `calig audit CONFIG.yaml` first")
    return complete


@contextmanager
def _connect(config: Config) -> Iterator[duckdb.DuckDBPyConnection]:
    try:
        connection = duckdb.connect(config=config)
    except duckdb.Error as error:
        raise InputError(f"DuckDB refuses the limits given: {str(error).splitlines()[0]}") from error
    with connection:
        yield connection


def _prepare(connection: duckdb.DuckDBPyConnection, warehouse: Warehouse, runs: list[RunFiles]) -> None:
    """Attach the aggregates and make the views; every table of runs but `runs` is narrowed to the chosen ones."""
    lacking = show_statuses(connection, warehouse, attach(connection, warehouse.database))
    if not runs:
        return
    create_views(connection, runs)
    chosen = ", ".join(quote(item.manifest.run_id) for item in runs)
    for table in TABLES:
        if table != "runs":
            rows = lacking.get(table, f"SELECT * FROM calig.main.{name(table)}")
            rows = f"SELECT * FROM ({rows}) WHERE run_id IN ({chosen})"
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {name(table)} AS {rows}")


def _answer(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    pivots: bool,
    seconds: float,
    memory: str,
    max_rows: int,
) -> QueryResult:
    timer = threading.Timer(seconds, connection.interrupt)
    timer.start()
    try:
        if pivots:  # several statements, to DuckDB: a relation cannot be made of them
            connection.execute(f"CREATE TEMP TABLE {_PIVOTED} AS\n{sql.lstrip().lstrip(';')}")
            sql = f"FROM {_PIVOTED}"
        asked = connection.sql(sql)
        names, kinds = asked.columns, asked.types
        exact = [_exact(kind) for kind in kinds]
        columns = [
            f"#{place}" if wanted == str(kind) else f"CAST(#{place} AS {wanted})"
            for place, (wanted, kind) in enumerate(zip(exact, kinds, strict=True), start=1)
        ]
        if not all(column.startswith("#") for column in columns):
            # parsed and written anew, a statement has no semicolon or comment at its end and can stand in brackets
            bare = connection.execute(
                "SELECT json_deserialize_sql(json_serialize_sql(?::VARCHAR))", [sql]
            ).fetchone()
            sql = connection.sql(bare[0]).project(", ".join(columns)).sql_query() if bare else sql
        result = connection.execute(sql)
        rows: list[tuple[Any, ...]] = []
        size = 0
        while len(rows) <= max_rows and (chunk := result.fetchmany(min(FETCH, max_rows + 1 - len(rows)))):
            rows.extend(chunk)
            size += sum(len(cell) for row in chunk for cell in row if isinstance(cell, str | bytes | list))
            if size > MAX_OUTPUT:
                raise InputError(
                    f"SQL: the answer has more than {MAX_OUTPUT // 2**20} MB of text; select less"
                )
    except duckdb.InterruptException as error:
        raise InputError(
            f"SQL: stopped after {seconds:g} s; filter, aggregate, or allow more time"
        ) from error
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise InputError(
            f"SQL: needs more than {memory} of memory; filter, aggregate, or allow more"
        ) from error
    except duckdb.Error as error:
        if is_damage(error) or _is_gone(error):
            raise
        raise sql_error(error) from error
    finally:
        timer.cancel()
    return QueryResult(
        unique_names(names), [str(kind) for kind in kinds], rows[:max_rows], len(rows) > max_rows
    )


def _exact(kind: Any) -> str:
    """Return the SQL type in which Python holds all of a value of DuckDB's type `kind`.

    It is text for what Python would round: a month would become 30 days, nanoseconds microseconds, and the date
    infinity 31 December 9999.
    """
    if kind.id in _ROUNDED_BY_PYTHON:
        return "VARCHAR"
    if kind.id == "array":
        (_, inner), (_, size) = kind.children
        return f"{_exact(inner)}[{size}]"
    if kind.id not in ("list", "map", "struct", "tuple", "union"):
        return str(kind)
    inner_types = [(field, _exact(inner)) for field, inner in kind.children]
    if kind.id == "list":
        return f"{inner_types[0][1]}[]"
    if kind.id in ("map", "tuple"):
        return f"{kind.id.upper()}({', '.join(inner for _, inner in inner_types)})"
    members = inner_types[1:] if kind.id == "union" else inner_types  # the first of a union is its tag
    return f"{kind.id.upper()}({', '.join(f'{name(field)} {inner}' for field, inner in members)})"
