"""A warehouse with one evaluation in it: methods with planted strengths, their statistics, documents and scores."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from calig.warehouse import database

EVALUATION = "20260401-070000-eeee"
STRENGTHS = {
    "ca-lig": 0.607,
    "lig": 0.606,
    "ca-lig-trace": 0.596,
    "ig": 0.575,
    "lig-1": 0.56,
    "attcat": 0.539,
    "attention-x-gradient": 0.521,
    "ca-lig-rollout": 0.486,
    "kernel-shap": 0.604,
    "lime": 0.49,
    "occlusion": 0.602,
    "gradient-shap": 0.44,
    "deeplift": 0.41,
    "input-x-gradient": 0.223,
    "smoothgrad": 0.25,
    "attention-rollout": 0.193,
    "random": 0.123,
}
"""Planted mean of comprehensiveness by deletion; everything else follows from it."""
PASSES = {
    "ca-lig": 41.0,
    "ca-lig-trace": 41.0,
    "ca-lig-rollout": 41.0,
    "lig": 39.0,
    "ig": 34.0,
    "lig-1": 30.0,
    "attcat": 2.0,
    "attention-x-gradient": 2.0,
    "kernel-shap": 256.0,
    "lime": 256.0,
    "occlusion": 23.0,
    "gradient-shap": 40.0,
    "deeplift": 4.0,
    "input-x-gradient": 2.0,
    "smoothgrad": 40.0,
    "attention-rollout": 1.0,
    "random": 0.0,
}
LOWER = (
    "sufficiency",
    "log_ratio",
    "auc_positive",
    "curve_positive",
    "randomisation",
    "sensitivity_max",
    "determinism",
)
TABLES = """
CREATE TABLE IF NOT EXISTS evaluations (
    evaluation_id VARCHAR, name VARCHAR, status VARCHAR, started TIMESTAMP, finished TIMESTAMP,
    model_id VARCHAR, model_hash VARCHAR, head VARCHAR, modality VARCHAR,
    corpus_source VARCHAR, corpus_key VARCHAR, target VARCHAR, output VARCHAR, baseline VARCHAR,
    tolerance DOUBLE, fusion VARCHAR, weight DOUBLE, classes VARCHAR[], seed BIGINT, documents BIGINT,
    failures BIGINT, config VARCHAR, versions VARCHAR, timings VARCHAR
);
CREATE TABLE IF NOT EXISTS evaluation (
    evaluation_id VARCHAR, doc_id BIGINT, method VARCHAR, metric VARCHAR, removal VARCHAR, share DOUBLE, value DOUBLE
);
CREATE TABLE IF NOT EXISTS evaluation_stats (
    evaluation_id VARCHAR, method VARCHAR, metric VARCHAR, removal VARCHAR, share DOUBLE, documents BIGINT,
    mean DOUBLE, low DOUBLE, high DOUBLE, difference DOUBLE, difference_low DOUBLE, difference_high DOUBLE,
    win_rate DOUBLE
);
CREATE TABLE IF NOT EXISTS evaluation_methods (
    evaluation_id VARCHAR, method VARCHAR, title VARCHAR, passes DOUBLE, seconds DOUBLE, refusal VARCHAR
);
CREATE TABLE IF NOT EXISTS evaluation_documents (
    evaluation_id VARCHAR, doc_id BIGINT, source_id VARCHAR, doc_key VARCHAR, words VARCHAR[], label VARCHAR,
    target VARCHAR, predicted VARCHAR, probability DOUBLE, disagreement DOUBLE
);
"""
TEXT = (
    "the film is a moving and honest story with a charming cast but it is not funny and the ending feels tedious a "
    "clever script that never quite trusts its own warmth"
)


@dataclass(frozen=True)
class EvaluationScene:
    """What to fabricate. `extra` makes copies of a method under other names; `texts` are words of first documents."""

    documents: int = 60
    modality: str = "text"
    head: str = "single_label"
    strengths: dict[str, float] = field(default_factory=lambda: dict(STRENGTHS))
    extra: int = 0
    texts: tuple[tuple[str, ...], ...] = ()
    rationales: bool = True
    sanity: bool = True
    removals: tuple[str, ...] = ("delete", "mask")
    grid: tuple[int, int] = (7, 7)
    thumbnails: bool = True
    refused: dict[str, str] = field(
        default_factory=lambda: {"attn-lrp": "its rules do not cover this family's norms"}
    )
    names: tuple[str, str] = ("sst2 faithfulness", "textattack/bert-base-uncased-SST-2")

    @property
    def shares(self) -> tuple[float, ...]:
        return (0.1, 0.2, 0.3, 0.4, 0.5) if self.modality == "text" else tuple(i / 10 for i in range(10))

    @property
    def methods(self) -> dict[str, float]:
        return self.strengths | {f"lig-{index + 2}": 0.5 + 0.002 * index for index in range(self.extra)}


def make(root: Path, scene: EvaluationScene) -> Path:
    """Write the warehouse under `root`; return the evaluation's folder."""
    folder = root / "evaluations" / EVALUATION
    folder.mkdir(parents=True)
    rng = np.random.default_rng(11)
    with duckdb.connect(str(root / "calig.duckdb")) as con:
        database.create_tables(con)
        con.execute(TABLES)
        _fill(con, "evaluations", [_row(scene)])
        _fill(con, "evaluation_methods", _methods(scene))
        values = _values(rng, scene)
        _fill(con, "evaluation", values)
        _fill(con, "evaluation_stats", _stats(rng, values))
        documents = [_document(rng, scene, doc_id) for doc_id in range(scene.documents)]
        kept = (
            "doc_id",
            "source_id",
            "doc_key",
            "words",
            "label",
            "target",
            "predicted",
            "probability",
            "disagreement",
        )
        _fill(con, "evaluation_documents", [{key: document[key] for key in kept} for document in documents])
    content = [
        {k: d[k] for k in ("doc_id", "doc_key", "words", "rationale", "grid", "thumbnail")} for d in documents
    ]
    schema = pa.schema(
        [
            ("doc_id", pa.int64()),
            ("doc_key", pa.string()),
            ("words", pa.list_(pa.string())),
            ("rationale", pa.list_(pa.bool_())),
            ("grid", pa.list_(pa.int16())),
            ("thumbnail", pa.binary()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(content, schema=schema), folder / "documents-0.parquet")
    scores = [
        {
            "doc_id": d["doc_id"],
            "doc_key": d["doc_key"],
            "method": m,
            "scores": s,
            "passes": 1.0,
            "seconds": 0.1,
        }
        for d in documents
        for m, s in _scores(rng, scene, d).items()
    ]
    half = len(scores) // 2
    for shard, rows in enumerate((scores[:half], scores[half:])):
        table = pa.Table.from_pylist(rows).set_column(
            3, "scores", pa.array([row["scores"] for row in rows], pa.list_(pa.float32()))
        )
        pq.write_table(table, folder / f"scores-{shard}.parquet")
    return folder


def _fill(con: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, object]]) -> None:
    given = pa.Table.from_pylist([{"evaluation_id": EVALUATION, **row} for row in rows])
    con.register("given", given)
    con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM given")
    con.unregister("given")


def _row(scene: EvaluationScene) -> dict[str, object]:
    name, model = scene.names
    config = {"model": model, "evaluation": {"removals": list(scene.removals), "shares": list(scene.shares)}}
    return {
        "name": name,
        "status": "complete",
        "started": np.datetime64("2026-04-01T07:00:00", "us").item(),
        "finished": np.datetime64("2026-04-01T08:00:00", "us").item(),
        "model_id": model,
        "model_hash": "f" * 64,
        "corpus_source": "glue/sst2 validation",
        "corpus_key": "c" * 16,
        "head": scene.head,
        "modality": scene.modality,
        "target": "predicted",
        "output": "logit",
        "baseline": "pad",
        "tolerance": 0.01,
        "fusion": "column",
        "weight": 0.5,
        "classes": ["negative", "positive"],
        "seed": 0,
        "documents": scene.documents,
        "failures": 0,
        "config": json.dumps(config),
        "versions": json.dumps({"calig": "0.1.0", "torch": "2.11.0"}),
        "timings": json.dumps({"explain": 312.0, "measure": 1204.5}),
    }


def _methods(scene: EvaluationScene) -> list[dict[str, object]]:
    measured = [
        {
            "method": m,
            "title": None,
            "passes": PASSES.get(m, 30.0),
            "seconds": 0.004 * (1 + PASSES.get(m, 30.0)),
            "refusal": None,
        }
        for m in scene.methods
    ]
    refused = [
        {"method": m, "title": None, "passes": None, "seconds": None, "refusal": why}
        for m, why in scene.refused.items()
    ]
    return [*measured, *refused]


def _metrics(scene: EvaluationScene) -> list[tuple[str, str | None, tuple[float, ...], float, float]]:
    """(metric, removal, shares, offset, slope over strength)."""
    found: list[tuple[str, str | None, tuple[float, ...], float, float]] = []
    for place, removal in enumerate(scene.removals):
        off = -0.03 * place
        if scene.modality == "text":
            found += [
                ("comprehensiveness", removal, scene.shares, off, 1.0),
                ("sufficiency", removal, scene.shares, 0.32 + off, -0.6),
                ("log_ratio", removal, (), 0.2, -3.5),
                ("comprehensiveness_eraser", removal, (), -0.2, 1.0),
            ]
        else:
            found += [
                ("auc_positive", removal, (), 0.75, -0.7),
                ("auc_negative", removal, (), 0.3, 0.7),
                ("curve_positive", removal, scene.shares, 0.75, -0.7),
                ("curve_negative", removal, scene.shares, 0.3, 0.7),
            ]
    if scene.rationales and scene.modality == "text":
        found += [
            (metric, None, (), off, 0.5)
            for metric, off in (("token_f1", 0.1), ("auprc", 0.2), ("iou_f1", 0.0))
        ]
    if scene.sanity:
        found += [
            ("randomisation", None, (0.25, 0.5, 0.75, 1.0), 0.6, -0.5),
            ("sensitivity_max", None, (), 0.5, -0.3),
        ]
        found += [("determinism", None, (), 2e-7, 0.0)]
    return found


def _values(rng: np.random.Generator, scene: EvaluationScene) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for metric, removal, shares, offset, slope in _metrics(scene):
        hard = rng.normal(0, 0.12, scene.documents)
        for method, strength in scene.methods.items():
            mean = offset + slope * strength
            scale = abs(slope) or 1e-9
            own = mean + scale * (hard + rng.normal(0, 0.05, scene.documents))
            if not metric.startswith("curve"):
                found += [
                    _value(doc, method, metric, removal, None, own[doc]) for doc in range(scene.documents)
                ]
            for share in shares:
                factor = 1 - share * (1 - mean) if metric.startswith("curve") else (0.5 + share) / 0.8
                found += [
                    _value(doc, method, metric, removal, share, own[doc] * factor)
                    for doc in range(scene.documents)
                ]
    return found


def _value(
    doc: int, method: str, metric: str, removal: str | None, share: float | None, value: float
) -> dict[str, object]:
    return {
        "doc_id": doc,
        "method": method,
        "metric": metric,
        "removal": removal,
        "share": share,
        "value": float(value),
    }


def _stats(rng: np.random.Generator, values: list[dict[str, object]]) -> list[dict[str, object]]:
    grouped: dict[tuple[object, ...], dict[str, list[float]]] = {}
    for row in values:
        key = (row["metric"], row["removal"], row["share"])
        grouped.setdefault(key, {}).setdefault(str(row["method"]), []).append(float(row["value"]))  # type: ignore[arg-type]
    found: list[dict[str, object]] = []
    for (metric, removal, share), methods in grouped.items():
        for method, own in methods.items():
            numbers = np.array(own)
            row: dict[str, object] = {"method": method, "metric": metric, "removal": removal, "share": share}
            row |= {"documents": len(own), "mean": numbers.mean()}
            row["low"], row["high"] = _interval(rng, numbers)
            if "ca-lig" in methods:
                change = numbers - np.array(methods["ca-lig"])
                row["difference"] = change.mean()
                row["difference_low"], row["difference_high"] = _interval(rng, change)
                better = -np.sign(change) if metric in LOWER else np.sign(change)
                row["win_rate"] = (better.mean() + 1) / 2
            else:
                row |= dict.fromkeys(("difference", "difference_low", "difference_high", "win_rate"))
            found.append(row)
    return found


def _interval(rng: np.random.Generator, values: np.ndarray) -> tuple[float, float]:
    means = values[rng.integers(len(values), size=(400, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _document(rng: np.random.Generator, scene: EvaluationScene, doc_id: int) -> dict[str, object]:
    image = scene.modality == "image"
    words = (
        list(scene.texts[doc_id])
        if doc_id < len(scene.texts)
        else [str(w) for w in rng.choice(TEXT.split(), rng.integers(12, 40))]
    )
    target = ("negative", "positive")[int(rng.integers(2))]
    return {
        "doc_id": doc_id,
        "source_id": f"dev-{doc_id:04d}",
        "doc_key": f"{doc_id:064x}",
        "words": None if image else words,
        "label": target if rng.random() < 0.8 else "negative",
        "target": target,
        "predicted": target,
        "probability": float(rng.uniform(0.5, 1)),
        "disagreement": 2.0 - 0.001 * doc_id if doc_id < len(scene.texts) else float(rng.uniform(0.1, 0.9)),
        "rationale": [bool(mark) for mark in rng.random(len(words)) < 0.2]
        if scene.rationales and not image
        else None,
        "grid": list(scene.grid) if image else None,
        "thumbnail": _thumbnail(rng) if image and scene.thumbnails else None,
    }


def _thumbnail(rng: np.random.Generator) -> bytes:
    ramp = np.linspace(60, 190, 112)[None, :, None] + rng.integers(-40, 40, (1, 1, 3))
    pixels = np.broadcast_to(ramp, (112, 112, 3)).copy()
    pixels[30:80, 40:90] = rng.integers(0, 255, 3)
    out = BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=80)
    return out.getvalue()


def _scores(
    rng: np.random.Generator, scene: EvaluationScene, document: dict[str, object]
) -> dict[str, list[float]]:
    words = document["words"]
    size = scene.grid[0] * scene.grid[1] if scene.modality == "image" else len(words)  # type: ignore[arg-type]
    shared = rng.normal(0, 1, size) * rng.random(size) ** 2
    return {
        method: [float(v) for v in strength * shared + (0.65 - strength) * rng.normal(0, 0.5, size)]
        for method, strength in scene.methods.items()
    }
