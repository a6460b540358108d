"""Comparisons as they lie in a warehouse: Parquet files and a manifest, loaded into calig.duckdb.

`runs/<run>/comparisons/<reference>/` holds comparisons, outcomes, layers, words and documents, each a Parquet file with
the columns of its table, and `manifest.json`, written last: without it there is no comparison.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from calig.errors import NewerError
from calig.files import Files
from calig.formats import readable, stamp
from calig.listing import children, is_file
from calig.warehouse.catalog import name
from calig.warehouse.damage import pass_over
from calig.warehouse.database import expected_columns, new_database
from calig.warehouse.layout import Warehouse
from calig.warehouse.views import scan

logger = logging.getLogger(__name__)

FILES = {
    "comparisons": "comparisons",
    "outcomes": "comparison_outcomes",
    "layers": "comparison_layers",
    "words": "comparison_words",
    "documents": "comparison_documents",
}
"""File → the table that it is loaded into."""

VERSION = 1
"""Of the files' columns: others do not count."""

_TYPES = {
    "VARCHAR": pa.string(),
    "DOUBLE": pa.float64(),
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us"),
    "VARCHAR[]": pa.list_(pa.string()),
}


def schema(file: str) -> pa.Schema:
    """Return the columns of one of `FILES`."""
    own = [(column, _TYPES[kind]) for table, column, kind in expected_columns() if table == FILES[file]]
    return pa.schema(own)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return a comparison's manifest; None where there is none that counts, or a file is missing.

    Raises
    ------
    NewerError
        If it is of a newer format.
    """
    what = f"the comparison of {folder.parent.parent.name} with {folder.name}"
    try:
        manifest = readable(what, json.loads((folder / "manifest.json").read_bytes()))
        counts = manifest["version"] == VERSION
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):
        counts = False
    if not counts or not all(is_file(folder / f"{file}.parquet") for file in FILES):
        logger.warning("comparison %s does not count: it is damaged, or of another version", folder)
        return None
    return manifest


def read_manifests(run: Path) -> dict[Path, dict[str, Any]]:
    """Return the manifests of the comparisons in a run's folder that count, by folder; newer ones are passed over."""
    found: dict[Path, dict[str, Any]] = {}
    for folder in children(run / "comparisons"):
        try:
            manifest = read_manifest(folder)
        except NewerError as error:
            pass_over([error])
            continue
        if manifest is not None:
            found[folder] = manifest
    return found


def write_comparison(
    files: Files, folder: Path, columns: Mapping[str, Mapping[str, Any]], manifest: dict[str, Any]
) -> None:
    """Write a comparison, its manifest last.

    Parameters
    ----------
    files, folder
        The warehouse's files, and its folder, as `Warehouse.comparison` says; what was there goes.
    columns
        File → column → values, of one length; NaN is null. Columns that a file lacks are null.
    manifest
        What it was made of.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files.discard(folder / "manifest.json")
    for file in FILES:
        with files.making(folder / f"{file}.parquet") as part:
            pq.write_table(_table(file, columns[file]), part, compression="zstd")
    files.write_json(folder / "manifest.json", {"version": VERSION, **stamp(), **manifest})


def _table(file: str, columns: Mapping[str, Any]) -> pa.Table:
    rows = max(map(len, columns.values()))
    arrays = []
    for field in schema(file):
        values = columns.get(field.name)
        arrays.append(
            pa.nulls(rows, field.type) if values is None else pa.array(values, field.type, from_pandas=True)
        )
    return pa.Table.from_arrays(arrays, schema=schema(file))


def read_table(folder: Path, file: str) -> pa.Table:
    """Return one of a comparison's `FILES`."""
    return pq.read_table(folder / f"{file}.parquet")


def load_comparisons(connection: duckdb.DuckDBPyConnection, run: Path) -> None:
    """Insert the rows of all comparisons in a run's folder into the tables, which hold none of them."""
    for folder in read_manifests(run):
        insert_comparison(connection, folder)


def load_comparison(warehouse: Warehouse, run_id: str, reference_id: str, wait: float = 0.0) -> None:
    """Make one comparison's rows in calig.duckdb anew, leaving all others as they are.

    Raises
    ------
    InputError
        If another writer is at work for longer than `wait` seconds, or calig.duckdb is damaged or of another version.
    """
    with warehouse.writer_lock(wait=wait), new_database(warehouse, "2GB", keep=True) as connection:
        for table in FILES.values():
            connection.execute(
                f"DELETE FROM {name(table)} WHERE run_id = ? AND reference_id = ?", [run_id, reference_id]
            )
        insert_comparison(connection, warehouse.comparison(run_id, reference_id))


def insert_comparison(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Insert the rows of the comparison in a folder into the tables, which hold none of them."""
    for file, table in FILES.items():
        connection.execute(
            f"INSERT INTO {name(table)} BY NAME SELECT * FROM {scan([folder / f'{file}.parquet'])}"
        )
