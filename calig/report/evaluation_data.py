"""Collect what an evaluation's report shows, from the warehouse's tables and the evaluation's Parquet files."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from calig.errors import InputError
from calig.listing import matching
from calig.report.fetch import Row, fetch

MOST_DOCUMENTS = 12
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation's row; `config`, `versions` and `timings` (seconds by stage) unpacked from JSON."""

    evaluation_id: str
    name: str | None
    status: str
    started: datetime | None
    finished: datetime | None
    model_id: str
    model_hash: str | None
    corpus_source: str
    corpus_key: str | None
    documents: int
    failures: int
    head: str
    modality: str
    target: str
    output: str
    baseline: str
    fusion: str
    weight: float
    tolerance: float
    classes: list[str]
    seed: int
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    timings: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Method:
    """A method of explanation: cost per document, or the refusal that says why it did not apply."""

    name: str
    title: str
    passes: float | None
    seconds: float | None
    refusal: str | None


@dataclass(frozen=True, slots=True)
class Stat:
    """A method's mean of a metric over documents, with its 95 % interval.

    `difference` is the method's mean less CA-LIG's, over the documents that both have; `win_rate` the share of them
    on which the method is better. `share` is None for a mean over shares, and for metrics without.
    """

    method: str
    metric: str
    removal: str | None
    share: float | None
    documents: int
    mean: float | None
    low: float | None
    high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    win_rate: float | None


@dataclass(frozen=True, slots=True)
class Compared:
    """A document that methods disagree on.

    Attributes
    ----------
    words
        W words of a text, none of an image.
    rationale
        (W,) which words people marked, where somebody did.
    grid
        Rows and columns of an image's patches.
    scores
        Per method one number per word, or per patch row by row.
    """

    source_id: str
    label: str | None
    target: str
    predicted: str | None
    probability: float | None
    disagreement: float
    words: tuple[str, ...]
    rationale: tuple[bool, ...] | None
    grid: tuple[int, int] | None
    thumbnail: bytes | None
    scores: Mapping[str, Doubles]


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """All that the page shows. `values` has, per (metric, removal), each method's number by document."""

    evaluation: Evaluation
    methods: Mapping[str, Method]
    stats: tuple[Stat, ...]
    values: Mapping[tuple[str, str | None], Mapping[str, Mapping[int, float]]]
    documents: tuple[Compared, ...]


def collect(con: duckdb.DuckDBPyConnection, evaluation_id: str, folder: Path) -> EvaluationData:
    """Read an evaluation's results.

    Parameters
    ----------
    con
        A connection with the aggregate tables.
    evaluation_id
        The full id of the evaluation.
    folder
        Where its Parquet files are.

    Raises
    ------
    InputError
        If the tables hold no such evaluation, or no measurement of it.
    """
    found = fetch(con, "evaluation", evaluation=evaluation_id)
    if not found:
        raise InputError(
            f"no evaluation {evaluation_id} in the warehouse: run `calig evaluate CONFIG.yaml` first"
        )
    stats = tuple(Stat(**_finite(row)) for row in fetch(con, "evaluation_stats", evaluation=evaluation_id))
    if not stats:
        raise InputError(
            f"evaluation {evaluation_id} has no measurements: it failed, or every document did; see its manifest"
        )
    return EvaluationData(
        evaluation=_evaluation(found[0]),
        methods=_methods(con, evaluation_id, stats),
        stats=stats,
        values={
            key: _values(con, evaluation_id, *key)
            for key in dict.fromkeys((stat.metric, stat.removal) for stat in stats if stat.share is None)
        },
        documents=_documents(con, evaluation_id, folder),
    )


def _evaluation(row: Row) -> Evaluation:
    unpacked = {key: json.loads(row[key] or "{}") for key in ("config", "versions", "timings")}
    row = {**row, **unpacked, "classes": row["classes"] or []}
    return Evaluation(**{field.name: row[field.name] for field in fields(Evaluation)})


def _finite(row: Row) -> Row:
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in row.items()
    }


def _methods(
    con: duckdb.DuckDBPyConnection, evaluation_id: str, stats: tuple[Stat, ...]
) -> dict[str, Method]:
    """The methods of the table, and any that only the measurements name."""
    rows = fetch(con, "evaluation_methods", evaluation=evaluation_id)
    found = {row["method"]: row for row in rows}
    missing: Row = {"title": None, "passes": None, "seconds": None, "refusal": None}
    found |= {stat.method: missing for stat in stats if stat.method not in found}
    return {
        name: Method(name, row["title"] or name, row["passes"], row["seconds"], row["refusal"])
        for name, row in found.items()
    }


def _values(
    con: duckdb.DuckDBPyConnection, evaluation_id: str, metric: str, removal: str | None
) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for row in fetch(con, "evaluation_values", evaluation=evaluation_id, metric=metric, removal=removal):
        found[row["method"]][row["doc_id"]] = row["value"]
    return dict(found)


def _documents(con: duckdb.DuckDBPyConnection, evaluation_id: str, folder: Path) -> tuple[Compared, ...]:
    rows = fetch(con, "evaluation_documents", evaluation=evaluation_id, most=MOST_DOCUMENTS)
    docs = [row["doc_id"] for row in rows]
    scores: dict[int, dict[str, Doubles]] = defaultdict(dict)
    for row in _parquet(con, "evaluation_scores", folder, "scores", docs):
        values = np.asarray([np.nan if v is None else v for v in row["scores"]], dtype=np.float64)
        scores[row["doc_id"]][row["method"]] = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    contents = {row["doc_id"]: row for row in _parquet(con, "evaluation_contents", folder, "documents", docs)}
    found = (_compared(row, contents.get(row["doc_id"], {}), scores[row["doc_id"]]) for row in rows)
    return tuple(document for document in found if document.scores)


def _parquet(
    con: duckdb.DuckDBPyConnection, query: str, folder: Path, kind: str, docs: list[int]
) -> list[Row]:
    files = [str(path) for path in matching(folder, f"{kind}-*.parquet")]
    return fetch(con, query, files=files, docs=docs) if files and docs else []


def _compared(row: Row, content: Row, scores: Mapping[str, Doubles]) -> Compared:
    grid = content.get("grid")
    words = tuple(row["words"] or content.get("words") or ())
    size = grid[0] * grid[1] if grid else len(words)
    marked = content.get("rationale")
    return Compared(
        source_id=row["source_id"],
        label=row["label"],
        target=row["target"],
        predicted=row["predicted"],
        probability=row["probability"],
        disagreement=row["disagreement"],
        words=() if grid else words,
        rationale=tuple(bool(mark) for mark in marked) if marked and len(marked) == len(words) else None,
        grid=(grid[0], grid[1]) if grid else None,
        thumbnail=content.get("thumbnail"),
        scores={method: values for method, values in scores.items() if len(values) == size > 0},
    )
