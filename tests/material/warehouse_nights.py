"""Warehouses of several nights whose corpora overlap: a document is attributed once, as audits do it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from calig.files import Files, write_json
from calig.records import document_key
from calig.warehouse.aggregate import aggregate
from calig.warehouse.catalog import TABLES
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_tables, query
from calig.warehouse.shards import held, write_shard
from tests.material.warehouses import CLASSES, make_items, write_corpus

DEPTHS = 3


def corpus_key(texts: Sequence[str]) -> str:
    return "corpus-" + hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]


def add_night(
    warehouse: Warehouse,
    number: int,
    texts: Sequence[str],
    *,
    key: str = "model-a",
    name: str = "nightly",
    status: str = "complete",
    compared: Sequence[str] = (),
) -> str:
    """Add the run `<name>-<number>`, of a night later than those of lower numbers; return its id.

    `compared`: attribution keys under which a comparison explained documents again.
    """
    run_id = f"{name}-{number:02d}"
    corpus = write_corpus(warehouse, corpus_key(texts), texts, seed=7)
    folder = warehouse.attributions(key)
    seen = held(Files(folder), folder)
    missing = [text for text in dict.fromkeys(texts) if document_key(text) not in seen]
    if missing:
        write_shard(Files(folder), folder, make_items(missing, DEPTHS, seed=3), 1.5, run_id=run_id)
    warehouse.run(run_id).mkdir(parents=True)
    table = corpus.select(["doc_id", "source_id", "doc_key", "label", "category"])
    table = table.add_column(0, "run_id", pa.array([run_id] * len(texts)))
    pq.write_table(table, warehouse.run(run_id) / "documents.parquet")
    started = datetime(2026, 11, 1, 2, tzinfo=UTC) + timedelta(days=number)
    method = {"target": "predicted", "output": "logit", "baseline": "pad", "tolerance": 0.01, "max_nodes": 96}
    manifest = {
        "run_id": run_id,
        "name": name,
        "status": status,
        "started": started.isoformat(),
        "finished": (started + timedelta(minutes=5)).isoformat(),
        "model": {"id": key, "revision": None, "hash": key, "classes": list(CLASSES)},
        "corpus": {"key": corpus_key(texts), "source": "night.parquet", "documents": len(texts)},
        "attribution_key": key,
        "method": method | {"max_length": None, "fusion": "agreement", "weight": 0.5},
        "depths": DEPTHS,
        "attributed": len(missing),
        "reused": len(set(texts)) - len(missing),
        "config": {},
        "versions": {},
        "timings": {},
    }
    for other in compared:
        comparison = warehouse.comparison(run_id, "reference")
        write_json(comparison / "manifest.json", {"attribution_keys": [other]})
    write_json(warehouse.run(run_id) / "manifest.json", manifest)
    if status == "complete":
        aggregate(warehouse, run_id)
    return run_id


def sight(warehouse: Warehouse, run_id: str) -> dict[str, list[tuple[Any, ...]]]:
    """What a reader sees of a run: its views, and its rows in all tables."""
    views = {
        "documents": "SELECT * FROM documents ORDER BY doc_id",
        "tokens": "SELECT * FROM tokens ORDER BY doc_id, position",
    }
    seen = {view: query(warehouse, sql, run_id).rows for view, sql in views.items()}
    connection = open_tables(warehouse)
    for table in TABLES:
        sql = f"SELECT * FROM {table} WHERE run_id = ? ORDER BY ALL"
        seen[f"table {table}"] = connection.execute(sql, [run_id]).fetchall()
    connection.close()
    return seen


def files(warehouse: Warehouse) -> set[str]:
    """All files of the warehouse but locks, by their paths in it."""
    found = (path.relative_to(warehouse.root) for path in warehouse.root.rglob("*") if path.is_file())
    return {str(path) for path in found if path.name != ".lock"}
