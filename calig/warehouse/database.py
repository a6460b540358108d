"""The DuckDB file: made, opened and checked. It holds aggregates only, so it can always be rebuilt."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from calig.errors import InputError, NewerError
from calig.files import PART_SUFFIX
from calig.formats import FORMAT, STAMP, newer, stamp
from calig.listing import denied, is_file
from calig.warehouse.catalog import (
    EVALUATION_TABLES,
    TABLES,
    about,
    comment_statements,
    name,
    quote,
    read_sql,
)
from calig.warehouse.layout import DATABASE, Warehouse

SPILL = ".spill-"
FULL = os.strerror(errno.ENOSPC)
_FOREIGN = "not a valid DuckDB database file"
ADDED = frozenset(
    (table, column)
    for table, columns in {
        "runs": "notes label_order label_order_accuracy corpus_rows left_out left_out_files unconverged "
        "format engine_version calig_version",
        "gates": "state level chance detectable cannot_see",
        "comparisons": "text_changed only_a only_b words_untested layers_untested outcomes_untested "
        "psi_level psi_draws class_psi_p class_psi_by_chance layer_psi_p layer_psi_by_chance tests_paired "
        "same_engine differences",
        "comparison_outcomes": "state",
        "comparison_layers": "state",
        "comparison_words": "state",
        "comparison_documents": "text_changed",
    }.items()
    for column in columns.split()
)
"""Tables and columns that 0.1.0 did not have: where they are not there, they are null."""


WRITTEN = "written"
"""The table that says which version wrote the file; there is none in those of format 1."""


def records(result: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Return the rows of an answer, each as column → value."""
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Make all tables, empty, with their comments, in the connection's current database."""
    connection.execute(read_sql("tables.sql"))
    for table in (*TABLES, *EVALUATION_TABLES):
        columns = [row[0] for row in connection.execute(f"DESCRIBE {name(table)}").fetchall()]
        for statement in comment_statements("TABLE", table, columns):
            connection.execute(statement)


def columns_of(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str, str]]:
    """Return (table, column, type) of all tables of the connection's current database, in order."""
    return connection.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = current_database() AND NOT internal AND table_name <> ? "
        "ORDER BY table_name, column_index",
        [WRITTEN],
    ).fetchall()


@cache
def expected_columns() -> list[tuple[str, str, str]]:
    """Return (table, column, type) of all tables as this version makes them, in order."""
    with duckdb.connect() as connection:
        connection.execute(read_sql("tables.sql"))
        return columns_of(connection)


@contextmanager
def reporting_disk(path: Path) -> Iterator[None]:
    """Turn what DuckDB raises into the OSError that it is where there is no room left, and say it of damage."""
    try:
        yield
    except duckdb.Error as error:
        if FULL in str(error):
            raise OSError(errno.ENOSPC, FULL, str(path)) from error
        if is_damage(error):
            raise damaged(path, error) from error
        raise


def is_damage(error: duckdb.Error) -> bool:
    """Whether DuckDB met a block of its file that is not what it wrote, which it may do at any statement."""
    text = str(error)
    return "Corrupt database file" in text or ("Could not read enough bytes" in text and DATABASE in text)


class UnreadableTablesError(InputError):
    """The file of aggregates is damaged, or of an earlier version: nothing is in it that cannot be made again."""

    @property
    def reason(self) -> str:
        """What is wrong with it."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.reason}: run `calig rebuild` to make it anew"


def damaged(path: Path, error: duckdb.Error) -> InputError:
    """What to say of a file of aggregates that cannot be read."""
    if "Permission denied" in str(error):
        return denied(path)
    reason = f"{path} cannot be read ({str(error).splitlines()[0]})"
    if is_damage(error) or _FOREIGN in str(error) or isinstance(error, duckdb.SerializationException):
        return UnreadableTablesError(reason)
    return InputError(f"{reason}: run `calig rebuild` to make it anew")  # locked, or of a newer DuckDB


@contextmanager
def reporting_damage(path: Path) -> Iterator[None]:
    """Turn what DuckDB raises on a damaged or foreign file into an InputError that says how to mend it."""
    try:
        yield
    except duckdb.Error as error:
        foreign = (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException)
        if FULL in str(error) or not (isinstance(error, foreign) or is_damage(error)):
            raise
        raise damaged(path, error) from error


def check_format(connection: duckdb.DuckDBPyConnection, path: Path) -> list[tuple[str, str, str]]:
    """Check that the current database has the tables this version makes, but for some that are new.

    Returns
    -------
    (table, column, type) of what an earlier version did not have yet.

    Raises
    ------
    NewerError
        If it is of a newer format.
    InputError
        If anything else differs, naming the first difference.
    """
    _check_written(connection, path)
    found, expected = columns_of(connection), expected_columns()
    lacking = [column for column in expected if column not in found and column[:2] in ADDED]
    if found != [column for column in expected if column not in lacking]:
        table, name, _ = next(iter(set(found) ^ set(expected)), ("the tables", "order", ""))
        reason = f"{path} is of another version of calig ({table}.{name} differs)"
        if set(found) < set(expected):  # what a newer version adds is not among ours
            raise UnreadableTablesError(reason)
        raise InputError(f"{reason}: run `calig rebuild` to make it anew")
    return lacking


def _check_written(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raise a NewerError if the current database is of a newer format."""
    told = "SELECT count(*) FROM duckdb_columns() WHERE database_name = current_database() AND table_name = ?"
    [(said,)] = connection.execute(told, [WRITTEN]).fetchall()
    if not said:
        return
    rows = connection.execute(f"SELECT format, calig_version FROM {WRITTEN}").fetchall()
    for written, version in rows:
        if written > FORMAT:
            raise newer(str(path), written, version)


def _write_stamp(connection: duckdb.DuckDBPyConnection) -> None:
    """Say in the current database that this version wrote it."""
    connection.execute(
        f"CREATE OR REPLACE TABLE {WRITTEN} (format INTEGER, engine_version INTEGER, calig_version VARCHAR)"
    )
    connection.execute(f"INSERT INTO {WRITTEN} VALUES ($format, $engine_version, $calig_version)", stamp())
    for statement in comment_statements("TABLE", WRITTEN, list(STAMP)):
        connection.execute(statement)


def _refuse_newer(path: Path) -> None:
    """Raise a NewerError if the aggregates there are of a newer format; what else is wrong with them is no matter."""
    if not is_file(path):
        return
    try:
        with duckdb.connect() as connection:
            attach(connection, path)
    except NewerError:
        raise
    except (InputError, duckdb.Error):
        return


def _add_lacking(connection: duckdb.DuckDBPyConnection, lacking: Sequence[tuple[str, str, str]]) -> None:
    """Add the columns that an earlier version did not have, null in its rows."""
    for table, column, kind in lacking:
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name(table)} ({name(column)} {kind})")
        connection.execute(f"ALTER TABLE {name(table)} ADD COLUMN IF NOT EXISTS {name(column)} {kind}")
        connection.execute(f"COMMENT ON COLUMN {name(table)}.{name(column)} IS {quote(about(table, column))}")


def _show_lacking(
    connection: duckdb.DuckDBPyConnection, lacking: Sequence[tuple[str, str, str]]
) -> dict[str, str]:
    """Make views, in place of tables of an earlier version, that have the columns which those lack, null.

    Returns the SELECT behind each.
    """
    there = {table for table, _, _ in columns_of(connection)}
    shown: dict[str, str] = {}
    for table in dict.fromkeys(table for table, _, _ in lacking):
        added = ", ".join(f"NULL::{kind} AS {name(column)}" for one, column, kind in lacking if one == table)
        rows = (
            f"SELECT *, {added} FROM calig.main.{name(table)}"
            if table in there
            else f"SELECT {added} WHERE false"
        )
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {name(table)} AS {rows}")
        shown[table] = rows
    return shown


def attach(connection: duckdb.DuckDBPyConnection, path: Path) -> dict[str, str]:
    """Attach the aggregates read-only as `calig` and make them the current database.

    Tables of an earlier version have the columns that they lacked, null.

    Returns
    -------
    The SELECT behind each of those tables.

    Raises
    ------
    InputError
        If the file is missing, damaged, or of another version.
    """
    if not is_file(path):
        raise InputError(f"{path} is missing: run `calig rebuild` to make it from the Parquet files")
    with reporting_damage(path):
        connection.execute(f"ATTACH {quote(str(path))} AS calig (READ_ONLY)")
        connection.execute("USE calig")
        return _show_lacking(connection, check_format(connection, path))


@contextmanager
def new_database(warehouse: Warehouse, memory: str, keep: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a new database, with the present one's content if `keep`; swap it in if the block ends well.

    Raises
    ------
    NewerError
        If the present one is of a newer format, which stays.
    """
    path = warehouse.database
    _refuse_newer(path)
    for leftover in warehouse.root.glob(f".{path.name}.*{PART_SUFFIX}*"):
        leftover.unlink()
    for leftover in warehouse.root.glob(f"{SPILL}*"):
        shutil.rmtree(leftover)
    with warehouse.files.making(path) as part:
        fresh = not (keep and is_file(path))
        if not fresh:
            shutil.copyfile(path, part)
        spill = tempfile.TemporaryDirectory(prefix=SPILL, dir=warehouse.root)
        with reporting_disk(path), spill as folder:
            with reporting_damage(path):
                connection = duckdb.connect(part, config={"memory_limit": memory, "temp_directory": folder})
            with connection:
                create_tables(connection) if fresh else _add_lacking(
                    connection, check_format(connection, path)
                )
                _write_stamp(connection)
                yield connection
                connection.execute("CHECKPOINT")
