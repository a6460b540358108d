"""The evaluations of a warehouse: their manifests, and the Parquet schemas of their shards.

A shard of `evaluations/<evaluation id>/` is `documents-<shard>.parquet`, a row per document, failed ones too,
`scores-<shard>.parquet`, a row per document and method, `values-<shard>.parquet`, a row per number measured, and
`manifest-<shard>.json`, written last. Texts of contrast pairs have negative numbers in place of the row in the corpus.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from calig.errors import DamagedError, InputError
from calig.files import Files
from calig.formats import readable
from calig.listing import children, denied, exists
from calig.warehouse.damage import pass_over, read_each
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import utc
from calig.warehouse.shards import ShardManifest, completed, shard_name, write_tables

_DOCUMENT = (("doc_id", pa.int64()), ("doc_key", pa.string()))

DOCUMENTS = pa.schema(
    [
        *_DOCUMENT,
        ("source_id", pa.string()),
        ("failure", pa.string()),
        ("failure_detail", pa.string()),
        ("label", pa.string()),
        ("target", pa.string()),
        ("predicted", pa.string()),
        ("probability", pa.float64()),
        ("words", pa.list_(pa.string())),
        ("rationale", pa.list_(pa.bool_())),
        ("grid", pa.list_(pa.int16())),
        ("thumbnail", pa.binary()),
    ]
)
"""A document: its W words in the order of its scores, and which of them people marked; an image's grid instead."""

SCORES = pa.schema(
    [
        *_DOCUMENT,
        ("method", pa.string()),
        ("scores", pa.list_(pa.float32())),
        ("passes", pa.float64()),
        ("seconds", pa.float64()),
    ]
)
"""A method's answer on a document: signed scores of its words, or patches in rows from the top left, and their cost."""

VALUES = pa.schema(
    [
        *_DOCUMENT,
        ("method", pa.string()),
        ("metric", pa.string()),
        ("removal", pa.string()),
        ("share", pa.float64()),
        ("value", pa.float64()),
    ]
)
"""A number measured; null where the metric has none on this document."""

SCHEMAS = {"documents": DOCUMENTS, "scores": SCORES, "values": VALUES}


@dataclass(frozen=True, slots=True)
class EvaluationManifest:
    """What is evaluated, and how: `evaluations/<evaluation id>/manifest.json`.

    Attributes
    ----------
    evaluation_id, key, name
        The evaluation's id, the hash of all that its numbers depend on, and the configuration's name.
    status
        "running", "complete" or "failed".
    started, finished
        ISO 8601 times; `finished` is None while it runs.
    model
        Keys id, revision, hash, classes, head and modality.
    corpus
        Keys key, source and documents.
    method
        Keys target, output, baseline, tolerance, max_nodes, max_length, fusion and weight.
    evaluation
        The configuration's section, with metrics, removals and methods filled in.
    methods
        Name → its title, and under refusal why it does not apply to the model, or None; in their order.
    config, versions, timings
        The full configuration; package versions; seconds per stage.
    format, engine_version, calig_version
        By which version it was written (`calig.formats`): format 1, and None, where it does not say.
    """

    evaluation_id: str
    key: str
    name: str
    status: str
    started: str
    finished: str | None
    model: dict[str, Any]
    corpus: dict[str, Any]
    method: dict[str, Any]
    evaluation: dict[str, Any]
    methods: dict[str, dict[str, str | None]]
    config: dict[str, Any]
    versions: dict[str, str]
    timings: dict[str, float]
    format: int = 1
    engine_version: int | None = None
    calig_version: str | None = None

    @property
    def started_at(self) -> datetime:
        """When it was started first, UTC."""
        return utc(self.started)

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON-ready values."""
        return asdict(self)


def read_evaluation(warehouse: Warehouse, evaluation_id: str) -> EvaluationManifest:
    """Read an evaluation's manifest.

    Raises
    ------
    InputError
        If it is missing, not a manifest, or of a newer format; says which.
    """
    path = warehouse.evaluation(evaluation_id) / "manifest.json"
    try:
        raw = readable(f"evaluation {evaluation_id}", json.loads(path.read_bytes()))
        manifest = EvaluationManifest(**raw)
        _ = manifest.started_at
    except FileNotFoundError:
        there = ", ".join(sorted(path.parent.name for path in _manifests(warehouse))) or "none"
        raise InputError(f"evaluation {evaluation_id}: no {path}; there are: {there}") from None
    except PermissionError as error:
        raise denied(path) from error
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(
            f"evaluation {evaluation_id}: {path} is not an evaluation's manifest ({error}); delete the folder"
        ) from error
    return manifest


def list_evaluations(warehouse: Warehouse) -> list[EvaluationManifest]:
    """Return all evaluations that have a manifest, unfinished ones too, oldest first; damaged ones are passed over."""
    found, damaged = _read_evaluations(warehouse)
    pass_over(damaged)
    return found


def list_all_evaluations(warehouse: Warehouse) -> list[EvaluationManifest]:
    """Return what `list_evaluations` returns; an InputError if a manifest is damaged."""
    found, damaged = _read_evaluations(warehouse)
    for error in damaged:
        raise error
    return found


def _read_evaluations(warehouse: Warehouse) -> tuple[list[EvaluationManifest], list[DamagedError]]:
    ids = [path.parent.name for path in _manifests(warehouse)]
    found, damaged = read_each(ids, lambda evaluation_id: read_evaluation(warehouse, evaluation_id))
    return sorted(found.values(), key=lambda one: (one.started_at, one.evaluation_id)), [*damaged.values()]


def _manifests(warehouse: Warehouse) -> list[Path]:
    manifests = [folder / "manifest.json" for folder in children(warehouse.evaluations)]
    return [path for path in manifests if exists(path)]


def write_evaluation_shard(
    files: Files, folder: Path, rows: dict[str, list[dict[str, Any]]], tokens: int, seconds: float
) -> ShardManifest:
    """Write what was found on some documents as one shard.

    Parameters
    ----------
    files, folder
        The warehouse's files, and the evaluation's folder.
    rows
        Under documents, scores and values: rows of `DOCUMENTS`, `SCORES` and `VALUES`.
    tokens
        Tokens of the documents.
    seconds
        Wall-clock time the shard took.

    Raises
    ------
    ValueError
        If there are no documents, or one comes twice.
    """
    ids = [row["doc_id"] for row in rows["documents"]]
    if not ids or len(set(ids)) != len(ids):
        raise ValueError("a shard needs at least one document, and each only once")
    return write_tables(
        files,
        folder,
        shard_name([f"{row['doc_id']} {row['doc_key']}" for row in rows["documents"]]),
        {kind: pa.Table.from_pylist(rows[kind], schema=schema) for kind, schema in SCHEMAS.items()},
        documents=len(ids),
        failures=sum(row.get("failure") is not None for row in rows["documents"]),
        tokens=tokens,
        seconds=seconds,
    )


def shard_files(warehouse: Warehouse, evaluation_id: str, kind: str) -> list[Path]:
    """Return the files of one kind (documents, scores or values) of the shards that count, by size, not by hash."""
    folder = warehouse.evaluation(evaluation_id)
    return [
        path
        for shard in completed(warehouse.files, folder, check=False)
        for path in shard.paths(folder, kind)
    ]
