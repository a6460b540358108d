"""From Parquet to the tables of calig.duckdb: a run's rows are made in a copy, which is then swapped in.

An open reader keeps the file it opened; a killed writer leaves a temporary file, which the next one deletes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from string import Template

import duckdb
import numpy as np
import pyarrow as pa

from calig.bootstrap import mean_intervals
from calig.warehouse.catalog import TABLES, quote, read_sql
from calig.warehouse.columns import context_columns, ig_columns
from calig.warehouse.comparisons import load_comparisons
from calig.warehouse.database import new_database
from calig.warehouse.evaluation_tables import write_evaluation
from calig.warehouse.evaluations import list_evaluations
from calig.warehouse.gates import insert_gates
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import list_runs, utc
from calig.warehouse.shards import completed
from calig.warehouse.views import RunFiles, create_views, document_scan, run_files
from calig.warehouse.watched import find_watched

BATCH = 4_000_000  # (word, document) pairs held at once for the bootstrap
STEPS = (
    *("document_depths", "settling", "layer_stats", "token_stats", "word_stats", "class_stats"),
    *("document_maps", "region_stats", "patch_stats", "completeness", "failures", "watched", "runs"),
)
INTERVALS = pa.schema(
    [
        ("class", pa.string()),
        ("item", pa.string()),
        ("effect", pa.float64()),
        ("effect_low", pa.float64()),
        ("effect_high", pa.float64()),
    ]
)


def aggregate(warehouse: Warehouse, run_id: str, memory: str = "4GB", wait: float = 0.0) -> None:
    """Make a run's rows in all tables of calig.duckdb anew, leaving other runs' rows as they are.

    Parameters
    ----------
    warehouse
        The warehouse; its Parquet files hold the run.
    run_id
        The run's full id.
    memory
        What DuckDB may use; beyond it, it spills into the warehouse's folder.

    Raises
    ------
    InputError
        If another writer is at work, the run or its files are missing, or calig.duckdb is damaged or of
        another version (then `calig rebuild` helps).
    """
    with warehouse.writer_lock(wait=wait), new_database(warehouse, memory, keep=True) as connection:
        _aggregate_run(connection, run_files(warehouse, run_id))


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Whose rows were made again: ids of runs and of evaluations, oldest first."""

    runs: list[str]
    evaluations: list[str]


def rebuild(warehouse: Warehouse, memory: str = "4GB") -> Rebuilt:
    """Make calig.duckdb from the Parquet files alone: every run that has its documents, and every evaluation.

    All shards are checked by hash; damaged ones are set aside, and their documents counted as missing.

    Parameters
    ----------
    warehouse, memory
        As for `aggregate`.

    Raises
    ------
    InputError
        If another writer is at work, or a run's files are damaged or missing.
    """
    with warehouse.writer_lock(), new_database(warehouse, memory, keep=False) as connection:
        runs = list_runs(warehouse)
        ready = [run for run in runs if (warehouse.run(run.run_id) / "documents.parquet").is_file()]
        for key in sorted({run.attribution_key for run in ready}):
            completed(warehouse.attributions(key))
        for run in ready:
            _aggregate_run(connection, run_files(warehouse, run.run_id))
        evaluations = [evaluation.evaluation_id for evaluation in list_evaluations(warehouse)]
        for evaluation_id in evaluations:
            completed(warehouse.evaluation(evaluation_id))
            write_evaluation(connection, warehouse, evaluation_id)
    return Rebuilt([run.run_id for run in ready], evaluations)


def _aggregate_run(database: duckdb.DuckDBPyConnection, run: RunFiles) -> None:
    """Replace the run's rows in one transaction, on a connection of its own: temporary tables go with it."""
    values = _values(run)
    with database.cursor() as connection:
        connection.execute("BEGIN")
        for table in TABLES:
            connection.execute(f"DELETE FROM {table} WHERE run_id = ?", [run.manifest.run_id])
        create_views(connection, [run])
        connection.register("manifest", _manifest_table(run))
        _execute(connection, "prepare", values)
        connection.register("word_intervals", _intervals(connection, "word"))
        connection.register("region_intervals", _intervals(connection, "region"))
        find_watched(connection, run)
        _execute(connection, "watch", values)
        connection.register("item_intervals", _intervals(connection, "item"))
        for table in STEPS:
            _execute(connection, table, values)
        load_comparisons(connection, run.documents.parent)
        insert_gates(connection, run.documents.parent)
        connection.execute("COMMIT")


def profile(connection: duckdb.DuckDBPyConnection, run: RunFiles) -> None:
    """Make the run's views, and its rows of `document_depths` and `settling`, in a connection's empty tables."""
    create_views(connection, [run])
    for step in ("prepare", "document_depths", "settling"):
        _execute(connection, step, _values(run))


def _values(run: RunFiles) -> dict[str, object]:
    """What the steps' SQL leaves open."""
    depths = run.manifest.depths
    return {
        "run_id": quote(run.manifest.run_id),
        "depths": depths,
        "ig": ", ".join(ig_columns(depths)),
        "ctx": ", ".join(context_columns(depths)),
        "head": quote(run.manifest.head),
        "classes": f"[{', '.join(quote(label) for label in run.manifest.classes)}]",
        "attributed": document_scan(run),
    }


def _execute(connection: duckdb.DuckDBPyConnection, step: str, values: dict[str, object]) -> None:
    connection.execute(Template(read_sql(f"aggregate/{step}.sql")).substitute(values))


def _manifest_table(run: RunFiles) -> pa.Table:
    """Lay out what the table `runs` takes from the manifest, as one row."""
    manifest = run.manifest
    row = {
        "run_id": manifest.run_id,
        "name": manifest.name,
        "status": manifest.status,
        "started": manifest.started_at,
        "finished": utc(manifest.finished) if manifest.finished else None,
        **{f"model_{key}": manifest.model.get(key) for key in ("id", "revision", "hash")},
        "head": manifest.head,
        "modality": manifest.modality,
        **{f"corpus_{key}": manifest.corpus.get(key) for key in ("source", "key")},
        "attribution_key": manifest.attribution_key,
        **{key: str(manifest.method[key]) for key in ("target", "output", "baseline", "fusion")},
        "tolerance": float(manifest.method["tolerance"]),
        "weight": manifest.weight,
        "depths": manifest.depths,
        "classes": manifest.classes,
        "attributed": manifest.attributed,
        "reused": manifest.reused,
        "own_block_passes": manifest.own_block_passes,
        "own_seconds": manifest.own_seconds,
        **{key: json.dumps(getattr(manifest, key)) for key in ("config", "versions", "timings")},
    }
    times = {"started": pa.timestamp("us"), "finished": pa.timestamp("us"), "classes": pa.list_(pa.string())}
    return pa.table({key: pa.array([value], times.get(key)) for key, value in row.items()})


def _intervals(connection: duckdb.DuckDBPyConnection, item: str) -> pa.Table:
    """Return class, item (a word, region or watched term), mean effect and its 95 % interval over documents.

    Those of `<item>_documents` in equally many documents go through the bootstrap together, about BATCH values at a
    time.
    """
    table = f"{item}_documents"
    sizes = connection.execute(
        f"SELECT documents, count(*) FROM {table} GROUP BY documents ORDER BY documents"
    ).fetchall()
    tables = [INTERVALS.empty_table()]
    for group in _batches(sizes):
        bounds = [group[0][0], group[-1][0]]
        items = connection.execute(
            f"SELECT class, {item} FROM {table} WHERE documents BETWEEN ? AND ? "
            f"GROUP BY documents, class, {item} ORDER BY documents, class, {item}",
            bounds,
        ).fetchnumpy()
        effects = connection.execute(
            f"SELECT effect FROM {table} WHERE documents BETWEEN ? AND ? "
            f"ORDER BY documents, class, {item}, doc_id",
            bounds,
        ).fetchnumpy()["effect"]
        ends = np.cumsum([rows for _, rows in group])[:-1]
        samples = [
            part.reshape(-1, size) for part, (size, _) in zip(np.split(effects, ends), group, strict=True)
        ]
        low, high = np.concatenate([mean_intervals(sample) for sample in samples]).T
        means = np.concatenate([sample.mean(axis=1) for sample in samples])
        columns = [items["class"], items[item], means, low, high]
        tables.append(pa.Table.from_arrays([pa.array(column) for column in columns], schema=INTERVALS))
    return pa.concat_tables(tables)


def _batches(sizes: Iterable[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Group (documents of a word, rows of such words) into runs of about BATCH rows."""
    groups: list[list[tuple[int, int]]] = []
    for size, rows in sizes:
        if groups and sum(held for _, held in groups[-1]) + rows <= BATCH:
            groups[-1].append((size, rows))
        else:
            groups.append([(size, rows)])
    return groups
