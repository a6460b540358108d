"""All that a comparison says, laid out as columns of its files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from calig.comparison.layers import compare_layers
from calig.comparison.limits import Limits
from calig.comparison.outcomes import class_drift, compare_outcomes, confidence_drift
from calig.comparison.rows import Row
from calig.comparison.verdict import verdict
from calig.comparison.words import compare_words
from calig.config.history import CompareConfig
from calig.warehouse.pairing import Columns, Pairing
from calig.warehouse.runs import RunManifest


def lay_out(
    pair: Pairing, a: RunManifest, b: RunManifest, requested: str, compare: CompareConfig, again: int
) -> dict[str, Any]:
    """Compare what the pairing holds.

    Parameters
    ----------
    pair
        The two runs, settled.
    a, b
        The reference, and the run.
    requested
        How the reference was asked for.
    compare
        When a difference is a change.
    again
        Documents that were explained again.

    Returns
    -------
    File of the comparison (see `calig.warehouse.comparisons.FILES`) → column → values.
    """
    limits = Limits(
        compare.alpha,
        compare.min_effect,
        compare.min_share,
        compare.min_size,
        compare.min_documents,
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
    if pair.paired and not regression:
        words["flips"] = _flips(words, rows)
    columns = {
        "outcomes": _stacked(outcomes),
        "layers": _stacked(layers),
        "words": words,
        "documents": rows,
    }
    left_out = pair.left_out()
    notes = [] if depths_agree else [f"layers are not compared, of {a.depths - 1} and {b.depths - 1} blocks"]
    if left_out:
        notes.append(f"{left_out} documents left out, which could not be explained again")
    told = words | {name: table[name] for name in ("of_a", "of_b")}
    there = all(len(side["target"]) for side in sides)
    row = {
        "requested": requested,
        "compared": datetime.now(UTC).replace(tzinfo=None),
        "same_model": a.model["hash"] == b.model["hash"],
        "same_corpus": a.corpus["key"] == b.corpus["key"],
        "documents_a": documents[0],
        "documents_b": documents[1],
        "paired": shared if pair.paired else 0,
        "explained_again": again,
        "left_out": left_out,
        "alpha": compare.alpha,
        **_counts(columns),
        **{f"accuracy_{side}": pair.accuracy(side) for side in "ab"},
        "layer_psi": max((own["psi"] for own in layers if own["class"] == "*"), default=None),
        "verdict": verdict(outcomes, layers, told, notes) if there else "there are no documents to compare",
    }
    if not regression:
        row |= _class_drift(sides, pair.paired, classes, rows, shared)
    columns["comparisons"] = {name: [value] for name, value in row.items()}
    ids = {"run_id": b.run_id, "reference_id": a.run_id}
    return {file: _with_ids(own, ids) for file, own in columns.items()}


def _counts(columns: dict[str, Columns]) -> Row:
    """How many tests there are, and changes, in each family."""
    counts: Row = {}
    for file in ("words", "layers", "outcomes"):
        p = [columns[file].get(name, []) for name in ("p", "share_p")]
        counts[f"{file}_changed"] = int(np.sum(columns[file].get("changed", [])))
        counts[f"{file}_tested"] = sum(int(np.sum(~np.isnan(np.array(own, dtype=np.float64)))) for own in p)
    return {"changed": any(counts[f"{file}_changed"] for file in ("words", "layers", "outcomes")), **counts}


def _class_drift(
    sides: tuple[Columns, Columns], paired: bool, classes: Sequence[str], rows: Columns, shared: int
) -> Row:
    """What is said of predicted classes and their probabilities."""
    classes_apart, confidence = class_drift(*sides, paired, classes), confidence_drift(*sides, paired)
    found: Row = {
        "class_psi": classes_apart[0],
        "class_js": classes_apart[1],
        "confidence_psi": confidence[0],
        "confidence_js": confidence[1],
    }
    if paired and shared:
        flips = int(sum(rows["flipped"]))
        found |= {"flips": flips, "flip_share": flips / shared}
    return found


def _flips(words: Columns, rows: Columns) -> Any:
    """Per row of words: in how many documents whose prediction changed it is the word whose effect changed most."""
    counts: dict[tuple[str, str], int] = {}
    for flipped, target, word in zip(rows["flipped"], rows["target"], rows["word"], strict=True):
        if flipped and word is not None:
            for name in (target, "*"):
                counts[name, word] = counts.get((name, word), 0) + 1
    return [counts.get(own, 0) for own in zip(words["class"], words["word"], strict=True)]


def _stacked(rows: Sequence[Row]) -> Columns:
    return {
        name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)
    }


def _with_ids(columns: Columns, ids: dict[str, str]) -> Columns:
    length = len(next(iter(columns.values()), ()))
    return {**{name: [value] * length for name, value in ids.items()}, **columns}
