"""Two simulated runs in DuckDB, as `calig.warehouse.pairing` has them, without models or files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from calig.comparing.summing import lay_out
from calig.comparison.layers import MEASURES
from calig.config.history import CompareConfig
from calig.warehouse.pairing import Pairing
from calig.warehouse.references import Reference
from calig.warehouse.runs import RunManifest

CLASSES = ("negative", "positive")
DEPTHS = 2


@dataclass
class Night:
    """One run's documents: classes predicted and labelled (n,), words held (n, V), their effects (n, V), measures.

    `labels` are names of classes, one list per document, where documents have several.
    """

    predicted: np.ndarray
    label: np.ndarray
    held: np.ndarray
    effects: np.ndarray
    measures: np.ndarray
    probability: np.ndarray
    labels: list[list[str]] | None = None


def night(
    rng: np.random.Generator,
    documents: int = 400,
    words: int = 200,
    positive: float = 0.5,
    several: bool = False,
) -> Night:
    """Documents that hold words as often as language does, with skewed effects; nothing depends on the night.

    `several`: documents have none, one or both of the classes as labels.
    """
    predicted = (rng.random(documents) < positive).astype(int)
    label = np.where(rng.random(documents) < 0.9, predicted, 1 - predicted)
    often = np.minimum(0.5, 3 / np.arange(1, words + 1))
    sign = np.where(predicted == 1, 1, -1)[:, None]
    effects = sign * 0.1 * np.sin(np.arange(words)) + 0.05 * np.exp(rng.normal(0, 1, (documents, words)))
    return Night(
        predicted,
        label,
        rng.random((documents, words)) < often,
        effects,
        np.exp(rng.normal(0, 1, (documents, DEPTHS, len(MEASURES)))),
        rng.beta(8, 2, documents),
        [[name for name in CLASSES if rng.random() < 0.4] for _ in range(documents)] if several else None,
    )


def manifest(run_id: str) -> RunManifest:
    """A run of a model of two classes and `DEPTHS` depths."""
    return RunManifest(
        run_id=run_id,
        name="simulated",
        status="complete",
        started=datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
        finished=None,
        model={"id": "m", "hash": "h", "classes": list(CLASSES), "head": "single_label"},
        corpus={"key": run_id},
        attribution_key="k",
        method={},
        depths=DEPTHS,
        attributed=0,
        reused=0,
        config={},
        versions={},
        timings={},
    )


def compared(
    a: Night, b: Night, paired: bool = False, psi_level: float = 0.05, **limits: Any
) -> dict[str, Any]:
    """All files of the comparison of two nights, as columns."""
    with duckdb.connect(config={"threads": 1}) as connection:
        for side, one in (("a", a), ("b", b)):
            _take(connection, side, one, paired)
        pair = Pairing(connection, paired)
        pair.settle()
        reference = Reference("a", "a")
        return lay_out(pair, manifest("a"), manifest("b"), reference, CompareConfig(**limits), psi_level, 0)


def rows(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Columns as rows."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _take(connection: duckdb.DuckDBPyConnection, side: str, one: Night, paired: bool) -> None:
    count = len(one.predicted)
    names = np.array(CLASSES, dtype=object)
    documents = pa.table(
        {
            "doc_id": np.arange(count),
            "doc_key": [f"{'' if paired else side}{i}" for i in range(count)],
            "content": [f"{'' if paired else side}{i}" for i in range(count)],
            "id": pa.nulls(count, pa.string()),
            "target": names[one.predicted],
            "predicted": names[one.predicted],
            "correct": (one.predicted == one.label).astype(float),
            "probability": one.probability,
            "logit": one.probability,
            "label_value": pa.nulls(count, pa.float64()),
            "predicted_classes": [[CLASSES[i]] for i in one.predicted],
            "labels": one.labels or [[CLASSES[i]] for i in one.label],
            "completeness_error": one.probability / 1e3,
            "in_statistics": np.ones(count, dtype=bool),
            "settling_depth": np.where(one.probability > 0.8, 1.0, 2.0),
            "confidence": one.probability,
        }
    )
    place, word = np.nonzero(one.held)
    items = {"doc_id": place, "word": [f"w{i}" for i in word], "effect": one.effects[place, word]}
    depths = {
        "doc_id": np.repeat(np.arange(count), DEPTHS),
        "depth": np.tile(np.arange(DEPTHS), count),
        **{name: one.measures[:, :, i].ravel() for i, name in enumerate(MEASURES)},
        "gross": one.measures[:, :, MEASURES.index("cancellation")].ravel(),
        "net": np.ones(count * DEPTHS),
    }
    tables = {"documents": documents, "items": pa.table(items), "depths": pa.table(depths)}
    for kind, table in tables.items():
        connection.register("taken", table)
        extra = ", false AS within" if kind == "items" else ""
        connection.execute(f"CREATE TEMP TABLE {side}_{kind} AS SELECT *{extra} FROM taken")
        connection.unregister("taken")
