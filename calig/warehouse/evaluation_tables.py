"""From an evaluation's Parquet to its rows in calig.duckdb."""

from __future__ import annotations

import json
from dataclasses import asdict
from string import Template

import duckdb
import numpy as np
import pyarrow as pa

from calig.warehouse.catalog import EVALUATION_TABLES, quote, read_sql
from calig.warehouse.database import new_database
from calig.warehouse.evaluations import SCHEMAS, EvaluationManifest, read_evaluation, shard_files
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import utc
from calig.warehouse.shards import completed
from calig.warehouse.statistics import LOWER_IS_BETTER, Compared, disagreement, paired
from calig.warehouse.views import scan, sql_type

REFERENCE = "ca-lig"
"""The method that the others are compared with."""

CONTROL = "random"
"""The method that explains nothing: left out where methods are asked whether they agree."""

STATISTICS = pa.schema(
    [
        *(
            ("method", pa.string()),
            ("metric", pa.string()),
            ("removal", pa.string()),
            ("share", pa.float64()),
        ),
        ("documents", pa.int64()),
        *((name, pa.float64()) for name in ("mean", "low", "high")),
        *((name, pa.float64()) for name in ("difference", "difference_low", "difference_high", "win_rate")),
    ]
)


def aggregate_evaluation(
    warehouse: Warehouse, evaluation_id: str, memory: str = "4GB", wait: float = 0.0
) -> None:
    """Make an evaluation's rows in all tables of calig.duckdb anew, leaving others' rows as they are.

    Parameters, and errors, as for `calig.warehouse.aggregate.aggregate`.
    """
    with warehouse.writer_lock(wait=wait), new_database(warehouse, memory, keep=True) as connection:
        write_evaluation(connection, warehouse, evaluation_id)


def write_evaluation(database: duckdb.DuckDBPyConnection, warehouse: Warehouse, evaluation_id: str) -> None:
    """Replace the evaluation's rows in one transaction, on a connection of its own: temporary views go with it."""
    manifest = read_evaluation(warehouse, evaluation_id)
    with database.cursor() as connection:
        connection.execute("BEGIN")
        for table in EVALUATION_TABLES:
            connection.execute(f"DELETE FROM {table} WHERE evaluation_id = ?", [evaluation_id])
        for kind, schema in SCHEMAS.items():
            files = shard_files(warehouse, evaluation_id, kind)
            rows = f"SELECT * FROM {scan(files)}" if files else _nothing(schema)
            connection.execute(f"CREATE TEMP VIEW evaluated_{kind} AS {rows}")
        shards = completed(warehouse.files, warehouse.evaluation(evaluation_id), check=False)
        seconds = sum(shard.seconds for shard in shards)
        connection.register("manifest", _manifest_table(manifest, seconds))
        connection.register("methods", _method_table(manifest))
        connection.register("disagreements", _disagreements(connection))
        for table in ("evaluation", "evaluation_methods", "evaluation_documents", "evaluations"):
            sql = read_sql(f"evaluation/{table}.sql")
            connection.execute(Template(sql).substitute(evaluation_id=quote(evaluation_id)))
        connection.register("statistics", _statistics(connection))
        connection.execute(
            "INSERT INTO evaluation_stats BY NAME SELECT ?::VARCHAR AS evaluation_id, * FROM statistics",
            [evaluation_id],
        )
        connection.execute("COMMIT")


def _nothing(schema: pa.Schema) -> str:
    columns = ", ".join(f"NULL::{sql_type(field.type)} AS {field.name}" for field in schema)
    return f"SELECT {columns} WHERE false"


def _manifest_table(manifest: EvaluationManifest, seconds: float) -> pa.Table:
    """Lay out what the table `evaluations` takes from the manifest, as one row."""
    row = {
        "evaluation_id": manifest.evaluation_id,
        "name": manifest.name,
        "status": manifest.status,
        "started": manifest.started_at,
        "finished": utc(manifest.finished) if manifest.finished else None,
        **{f"model_{key}": manifest.model[key] for key in ("id", "revision", "hash")},
        **{key: manifest.model[key] for key in ("head", "modality")},
        **{f"corpus_{key}": manifest.corpus[key] for key in ("source", "key")},
        **{key: str(manifest.method[key]) for key in ("target", "output", "baseline", "fusion")},
        **{key: float(manifest.method[key]) for key in ("tolerance", "weight")},
        "classes": manifest.model["classes"],
        "seed": manifest.evaluation["seed"],
        "evaluation_seconds": float(seconds),
        **{key: json.dumps(getattr(manifest, key)) for key in ("config", "versions", "timings")},
    }
    times = {"started": pa.timestamp("us"), "finished": pa.timestamp("us"), "classes": pa.list_(pa.string())}
    return pa.table({key: pa.array([value], times.get(key)) for key, value in row.items()})


def _method_table(manifest: EvaluationManifest) -> pa.Table:
    rows = [
        {"place": place, "method": method, "title": facts["title"], "refusal": facts["refusal"]}
        for place, (method, facts) in enumerate(manifest.methods.items())
    ]
    texts = [(name, pa.string()) for name in ("method", "title", "refusal")]
    return pa.Table.from_pylist(rows, schema=pa.schema([("place", pa.int32()), *texts]))


def _disagreements(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """Return doc_id and how far the methods disagree on the document."""
    rows = connection.execute(
        "SELECT doc_id, list(scores ORDER BY method) FROM evaluated_scores WHERE method <> ? GROUP BY doc_id",
        [CONTROL],
    )
    found: dict[int, float | None] = {}
    while chunk := rows.fetchmany(1000):
        for doc_id, scores in chunk:
            found[doc_id] = disagreement([np.array(own, dtype=np.float64) for own in scores])
    return pa.table(
        {
            "doc_id": pa.array(found.keys(), pa.int64()),
            "disagreement": pa.array(found.values(), pa.float64()),
        }
    )


def _statistics(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """Return the rows of `evaluation_stats`: one group of metric, removal and share at a time."""
    groups = connection.execute(
        "SELECT DISTINCT metric, removal, share FROM evaluated_values WHERE value IS NOT NULL ORDER BY ALL"
    ).fetchall()
    rows: list[dict[str, object]] = []
    for metric, removal, share in groups:
        numbers = connection.execute(
            "SELECT method, doc_id, value FROM evaluated_values WHERE metric = ? AND removal IS NOT DISTINCT FROM ? "
            "AND share IS NOT DISTINCT FROM ? AND value IS NOT NULL",
            [metric, removal, share],
        ).fetchnumpy()
        methods, row = np.unique(np.asarray(numbers["method"], dtype=str), return_inverse=True)
        documents, column = np.unique(numbers["doc_id"], return_inverse=True)
        values = np.full((len(methods) + 1, len(documents)), np.nan)  # the last row is nobody's
        values[row, column] = numbers["value"]
        names = [str(method) for method in methods]
        reference = names.index(REFERENCE) if REFERENCE in names else -1
        compared = paired(values, reference, metric in LOWER_IS_BETTER)[:-1]
        rows += [
            {"method": name, "metric": metric, "removal": removal, "share": share, **_facts(item)}
            for name, item in zip(names, compared, strict=True)
        ]
    return pa.Table.from_pylist(rows, schema=STATISTICS)


def _facts(item: Compared) -> dict[str, float | None]:
    """The numbers of a row, null in place of NaN."""
    return {
        name: None if np.isnan(value) else value for name, value in asdict(item).items() if name != "pairs"
    }
