"""The stages of a comparison as plain functions: find the references, compare the run with each, say what changed.

    wanted → compare_runs (once per reference) → headline

Truth is in the warehouse's files, as for an audit (`calig.stages`): a comparison that is there is not made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calig.comparison.layers import compare_layers
from calig.comparison.limits import Limits
from calig.comparison.outcomes import class_drift, compare_outcomes, confidence_drift
from calig.comparison.rows import Row
from calig.comparison.verdict import verdict
from calig.comparison.words import compare_words
from calig.config import AuditConfig, parse_config
from calig.config.history import CompareConfig
from calig.corpus.manifest import load_corpus
from calig.corpus.reading import content_columns, document_of, read_rows
from calig.errors import InputError
from calig.records import Document, document_key, image_key
from calig.stages import LOCK_SECONDS, shard_size
from calig.warehouse.comparisons import load_comparison, read_manifest, read_table, write_comparison
from calig.warehouse.layout import Warehouse
from calig.warehouse.pairing import Columns, Pairing, pairing
from calig.warehouse.references import Reference, check_comparable, resolve_references
from calig.warehouse.runs import RunManifest
from calig.warehouse.shards import held, write_shard
from calig.warehouse.views import RUN_COLUMNS, RunFiles, attributed, run_files
from calig.workers import ModelCard, method_of, read_schedule, schedule_path, workers_explainer

if TYPE_CHECKING:
    from calig.attribution.schedule import Schedule

logger = logging.getLogger(__name__)

_NUMBERS = 1
"""Bumped when the same two runs give other numbers."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A comparison that is asked for: of a run (side b) with a reference (side a), and when a difference is a change.

    `compare.alpha` is this comparison's own.
    """

    run_id: str
    reference: Reference
    compare: CompareConfig


def wanted(config: AuditConfig, run_id: str) -> list[Wanted]:
    """The comparisons that an audit's configuration asks for of its run; the false alarms allowed are shared out.

    Raises
    ------
    InputError
        If a name of `compare_to` is no complete run's.
    """
    warehouse = Warehouse.open(config.warehouse)
    references = resolve_references(warehouse, config.compare_to, config.name or "audit", run_id)
    own = config.compare.model_copy(update={"alpha": config.compare.alpha / max(1, len(config.compare_to))})
    return [Wanted(run_id, reference, own) for reference in references]


def asked(warehouse: Warehouse, reference_id: str, run_id: str, alpha: float | None) -> Wanted:
    """The comparison of two runs asked for by hand, with the limits of the run's configuration.

    `alpha` None: that of the comparison if there is one, else the configuration's.
    """
    manifest = run_files(warehouse, run_id).manifest
    compare = CompareConfig.model_validate(manifest.config.get("compare", {}))
    before = read_manifest(warehouse.comparison(run_id, reference_id))
    chosen = alpha if alpha is not None else before["compare"]["alpha"] if before else compare.alpha
    requested = before["requested"] if before else reference_id
    return Wanted(run_id, Reference(reference_id, requested), compare.model_copy(update={"alpha": chosen}))


def is_there(warehouse: Warehouse, one: Wanted) -> bool:
    """Whether the comparison has been made of the same runs, with the same limits, leaving no document out."""
    a, b = run_files(warehouse, one.reference.run_id).manifest, run_files(warehouse, one.run_id).manifest
    before = read_manifest(warehouse.comparison(one.run_id, one.reference.run_id))
    return before is not None and before["key"] == _key(a, b, one) and not before["left_out"]


def compare_runs(warehouse: Warehouse, one: Wanted) -> Row:
    """Make a comparison, unless it is there, and load it into the tables; return its row of `comparisons`.

    Raises
    ------
    InputError
        If the runs are one, are of models of different kinds, or files of theirs are missing.
    """
    run_id, reference_id = one.run_id, one.reference.run_id
    if run_id == reference_id:
        raise InputError(f"run {run_id} is to be compared with itself: name two runs")
    folder = warehouse.comparison(run_id, reference_id)
    with warehouse.writer_lock(folder, wait=LOCK_SECONDS):
        if is_there(warehouse, one):
            logger.info("comparison of %s with %s: it is there already", run_id, reference_id)
        else:
            a, b = run_files(warehouse, reference_id), run_files(warehouse, run_id)
            check_comparable(a.manifest, b.manifest.head, b.manifest.modality)
            with pairing(warehouse, a, b) as pair:
                again = _explain_again(warehouse, pair)
                pair.settle()
                columns = _columns(pair, one, again)
            row = {name: values[0] for name, values in columns["comparisons"].items()}
            manifest = {
                **{
                    name: row[name] for name in ("run_id", "reference_id", "requested", "left_out", "verdict")
                },
                "key": _key(a.manifest, b.manifest, one),
                "compare": one.compare.model_dump(mode="json"),
            }
            write_comparison(folder, columns, manifest)
        load_comparison(warehouse, run_id, reference_id, wait=LOCK_SECONDS)
    return summary(warehouse, run_id, reference_id)


def summary(warehouse: Warehouse, run_id: str, reference_id: str) -> Row:
    """A comparison's row of the table `comparisons`, from its file."""
    row: Row = read_table(warehouse.comparison(run_id, reference_id), "comparisons").to_pylist()[0]
    return row


def _key(a: RunManifest, b: RunManifest, one: Wanted) -> str:
    """Hash of all that a comparison's numbers depend on."""
    sides = [[run.run_id, run.attribution_key, run.corpus["key"], run.started] for run in (a, b)]
    content = json.dumps([_NUMBERS, sides, one.compare.model_dump(mode="json")])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _columns(pair: Pairing, one: Wanted, again: int) -> dict[str, Any]:
    """Columns of the comparison's files."""
    a, b = pair.a.manifest, pair.b.manifest
    limits = Limits(
        one.compare.alpha,
        one.compare.min_effect,
        one.compare.min_share,
        one.compare.min_size,
        one.compare.min_documents,
    )
    sides = pair.documents("a"), pair.documents("b")
    regression = b.head == "regression"
    classes = [] if regression else list(dict.fromkeys([*a.classes, *b.classes]))
    depths_agree = a.depths == b.depths
    outcomes = compare_outcomes(*sides, pair.paired, classes, depths_agree, limits)
    shared = pair.shared()
    documents = pair.count("a"), pair.count("b")
    if not pair.paired and documents[1]:
        share = (documents[1] - shared) / documents[1]
        new = {"documents_a": documents[0], "documents_b": documents[1], "b": share, "changed": False}
        outcomes.append({"measure": "new documents", "class": "*", **new})
    layers: list[Row] = []
    if depths_agree:
        (values_a, targets_a), (values_b, targets_b) = pair.depths("a"), pair.depths("b")
        layers = compare_layers(values_a, values_b, targets_a, targets_b, pair.paired, limits)
    table = pair.words(limits.documents)
    words = compare_words(table, lambda rows: pair.values(table, rows), pair.paired, limits)
    rows = pair.pairs()
    words["flips"] = _flips(words, rows) if pair.paired and not regression else None
    left_out = pair.left_out()
    notes = []
    if not depths_agree:
        notes.append(f"layers are not compared, of {a.depths - 1} and {b.depths - 1} blocks")
    if left_out:
        notes.append(f"{left_out} documents left out, which could not be explained again")
    nothing = not len(sides[0]["target"]) or not len(sides[1]["target"])
    flips = int(sum(bool(flipped) for flipped in rows["flipped"])) if pair.paired and not regression else None
    drift = (np.nan, np.nan) if regression else class_drift(*sides, pair.paired, classes)
    confidence = (np.nan, np.nan) if regression else confidence_drift(*sides, pair.paired)
    tests = [np.array([row.get("p", np.nan) for row in own], dtype=np.float64) for own in (layers, outcomes)]
    told = words | {"of_a": table["of_a"], "of_b": table["of_b"]}
    changed = [
        int(np.sum(words["changed"])),
        *(sum(row["changed"] for row in own) for own in (layers, outcomes)),
    ]
    ids = {"run_id": b.run_id, "reference_id": a.run_id}
    row: Row = {
        **ids,
        "requested": one.reference.requested,
        "compared": datetime.now(UTC).replace(tzinfo=None),
        "same_model": a.model["hash"] == b.model["hash"],
        "same_corpus": a.corpus["key"] == b.corpus["key"],
        "documents_a": documents[0],
        "documents_b": documents[1],
        "paired": shared if pair.paired else 0,
        "explained_again": again,
        "left_out": left_out,
        "alpha": one.compare.alpha,
        "changed": any(changed),
        **dict(zip(("words_changed", "layers_changed", "outcomes_changed"), changed, strict=True)),
        "words_tested": int(np.sum(~np.isnan(words["p"])) + np.sum(~np.isnan(words["share_p"]))),
        **{
            f"{name}_tested": int(np.sum(~np.isnan(own)))
            for name, own in zip(("layers", "outcomes"), tests, strict=True)
        },
        "accuracy_a": _mean(sides[0]["correct"]),
        "accuracy_b": _mean(sides[1]["correct"]),
        "flips": flips,
        "flip_share": flips / shared if flips is not None and shared else None,
        "class_psi": drift[0],
        "class_js": drift[1],
        "confidence_psi": confidence[0],
        "confidence_js": confidence[1],
        "layer_psi": max((row["psi"] for row in layers if row["class"] == "*"), default=None),
        "verdict": "no documents to compare" if nothing else verdict(outcomes, layers, told, notes),
    }
    return {
        "comparisons": {name: [value] for name, value in row.items()},
        "outcomes": _stacked(outcomes, ids),
        "layers": _stacked(layers, ids),
        "words": _with_ids(words, ids),
        "documents": _with_ids(rows, ids),
    }


def _mean(values: Any) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _flips(words: Columns, rows: Columns) -> Any:
    """Per row of words: in how many documents whose prediction changed it is the word whose effect changed most."""
    counts: dict[tuple[str, str], int] = {}
    for flipped, target, word in zip(rows["flipped"], rows["target"], rows["word"], strict=True):
        if flipped and word is not None:
            for name in (target, "*"):
                counts[name, word] = counts.get((name, word), 0) + 1
    return [counts.get(own, 0) for own in zip(words["class"], words["word"], strict=True)]


def _stacked(rows: Sequence[Row], ids: dict[str, str]) -> Columns:
    names = dict.fromkeys(name for row in rows for name in row if name != "size" or "psi" in row)
    return _with_ids({name: [row.get(name) for row in rows] for name in names}, ids)


def _with_ids(columns: Columns, ids: dict[str, str]) -> Columns:
    length = len(next(iter(columns.values()), ()))
    return {**{name: [value] * length for name, value in ids.items()}, **columns}


def _explain_again(warehouse: Warehouse, pair: Pairing) -> int:
    """Explain in run b's model, for the reference's class, the paired documents of which it explained another.

    Returns how many there are now. Where the model cannot be loaded any more, or is another one, they stay as they
    are: the pairing leaves them out.
    """
    run = pair.b.manifest
    known = {name: index for index, name in enumerate(run.classes)}
    flips = [(doc_id, known[name]) for doc_id, name in pair.flips() if name in known]
    if not flips or run.head == "regression":
        return 0
    try:
        config, model, schedule, key = _labelled(warehouse, run)
        keys = _explain(warehouse, run, config, model, schedule, key, flips)
    except (InputError, OSError) as error:
        logger.warning("run %s: %d documents cannot be explained again: %s", run.run_id, len(flips), error)
        return 0
    with tempfile.TemporaryDirectory(prefix="calig-again-") as folder:
        return pair.replace(_as_run(warehouse, pair.b, key, keys, Path(folder)))


def _labelled(warehouse: Warehouse, run: RunManifest) -> tuple[AuditConfig, ModelCard, Schedule | None, str]:
    """The run's configuration with the label for its target, its model, its schedule, and the key of such attributions."""
    from calig.attribution.explainer import attribution_key
    from calig.attribution.schedule import Schedule as Steps

    config = parse_config({**run.config, "warehouse": str(warehouse.root)})
    facts = {name: run.model.get(name) for name in ("id", "revision", "hash")}
    model = ModelCard(
        **facts, classes=tuple(run.classes), depth=run.depths - 1, head=run.head, modality=run.modality
    )
    schedule = read_schedule(schedule_path(config, model))
    method = config.method.model_copy(update={"target": "label"})
    config = config.model_copy(update={"method": method})
    fitted = method_of(config, model)
    steps = schedule or Steps.default(fitted.quadrature, model.depth)
    return config, model, schedule, attribution_key(model.hash, fitted, steps)


def _explain(
    warehouse: Warehouse,
    run: RunManifest,
    config: AuditConfig,
    model: ModelCard,
    schedule: Schedule | None,
    key: str,
    flips: Sequence[tuple[int, int]],
) -> dict[int, str]:
    """See that the shards under `key` hold these documents, (row number, class index); return their keys there."""
    labels = dict(flips)
    corpus = load_corpus(warehouse.root, run.corpus["key"])
    columns = ["doc_id", *content_columns(model.modality, config.corpus.text_pair is not None)]
    rows = read_rows(corpus, warehouse.root, columns, list(labels)).to_pylist()
    documents = {row["doc_id"]: _labelled_document(row, model, labels[row["doc_id"]]) for row in rows}
    folder = warehouse.attributions(key)
    with warehouse.writer_lock(folder, wait=LOCK_SECONDS):
        done = held(folder)
        missing = list({own.key: own for own in documents.values() if own.key not in done}.values())
        size = config.runtime.shard_documents or shard_size(schedule)
        for first in range(0, len(missing), size):
            start = time.perf_counter()
            items = workers_explainer(config, model, schedule).attribute(missing[first : first + size])
            write_shard(folder, items, time.perf_counter() - start, model.modality)
    return {doc_id: own.key for doc_id, own in documents.items()}


def _labelled_document(row: dict[str, Any], model: ModelCard, label: int) -> Document:
    """The document in a row of the corpus, with this label, and the key that it has with it."""
    document = replace(document_of(row, model.modality, labelled=False), label=label)
    if model.modality == "text":
        return replace(document, key=document_key(document.text, label, document.pair))
    image = document.image
    return replace(document, key=image_key(image.read_bytes() if isinstance(image, Path) else image, label))


def _as_run(warehouse: Warehouse, run: RunFiles, key: str, keys: dict[int, str], folder: Path) -> RunFiles:
    """The run with these documents alone, explained under another key; its file of documents goes into `folder`."""
    table = pq.read_table(run.documents, columns=list(RUN_COLUMNS))
    chosen = table.filter(pa.array([doc_id in keys for doc_id in table["doc_id"].to_pylist()]))
    own = pa.array([keys[doc_id] for doc_id in chosen["doc_id"].to_pylist()], pa.string())
    chosen = chosen.set_column(chosen.column_names.index("doc_key"), "doc_key", own)
    pq.write_table(chosen, folder / "documents.parquet")
    manifest = replace(run.manifest, attribution_key=key)
    return RunFiles(manifest, folder / "documents.parquet", run.corpus, *attributed(warehouse, key))
