"""What was found on documents, laid out as the rows of a shard (`calig.warehouse.evaluations`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from calig.records import Failure, Head, probabilities
from calig.workers import ModelCard

if TYPE_CHECKING:
    from calig.evaluation.context import Pair
    from calig.evaluation.evaluate import Evaluated
    from calig.evaluation.subject import Case
    from calig.evaluation.values import Value

Row = dict[str, Any]
Rows = dict[str, list[Row]]
"""Rows by kind: documents, scores and values."""


def evaluated_rows(row: Row, found: Evaluated | Failure, model: ModelCard) -> Rows:
    """Lay out one document.

    Parameters
    ----------
    row
        The document's row in the corpus, with doc_id, source_id, doc_key and label.
    found
        What was measured on it, or why nothing was.
    model
        Whose classes the labels and targets are.
    """
    own = {"doc_id": row["doc_id"], "doc_key": row["doc_key"]}
    document = {
        **own,
        "source_id": row["source_id"],
        "label": _label(row["label"], model.classes, model.head),
    }
    if isinstance(found, Failure):
        document |= {"failure": found.reason, "failure_detail": found.detail}
        return {"documents": [document], "scores": [], "values": []}
    case = found.case
    document |= {**_explained(case, model), **_content(case)}
    scores = [
        {
            **own,
            "method": method,
            "scores": _by_unit(case, scored.scores),
            "passes": scored.passes,
            "seconds": scored.seconds,
        }
        for method, scored in found.scored.items()
    ]
    return {"documents": [document], "scores": scores, "values": _values(own, found.values)}


def pair_rows(number: int, pair: Pair, key: str, values: Sequence[Value]) -> Rows:
    """Lay out one contrast pair, whose doc_id is the negative `number`."""
    own = {"doc_id": number, "doc_key": key}
    document: Row = {**own, "source_id": f"{pair.text} / {pair.contrast}"}
    if not values:
        detail = "one of its texts cannot be explained, or is cut off before the word"
        document |= {"failure": "pair", "failure_detail": detail}
    return {"documents": [document], "scores": [], "values": _values(own, values)}


def joined(rows: Sequence[Rows]) -> Rows:
    """The rows of several documents."""
    return {kind: [row for one in rows for row in one[kind]] for kind in ("documents", "scores", "values")}


def _values(own: Row, values: Sequence[Value]) -> list[Row]:
    """Numbers, null in place of those that are not finite."""
    return [
        {
            **own,
            "method": value.method,
            "metric": value.metric,
            "removal": value.removal,
            "share": value.share,
            "value": value.value if np.isfinite(value.value) else None,
        }
        for value in values
    ]


def _explained(case: Case, model: ModelCard) -> Row:
    shares = probabilities(case.logits, model.head)
    return {
        "target": model.classes[case.target],
        "predicted": None if shares is None else model.classes[int(np.argmax(case.logits))],
        "probability": None if shares is None else float(shares[case.target]),
        "rationale": None if case.rationale is None else case.rationale.tolist(),
    }


def _content(case: Case) -> Row:
    """The words of a text; the grid and a small picture of an image."""
    encoded, units = case.encoded, case.units
    if encoded.patches is not None:
        grid = None if encoded.grid is None else list(encoded.grid)
        return {"grid": grid, "thumbnail": encoded.thumbnail()}
    texts = (case.document.text, case.document.pair or "")
    words = []
    for unit in range(int(units.max(initial=-1)) + 1):
        inside = units == unit
        spans = encoded.char_spans[inside]
        words.append(texts[int(encoded.segments[inside][0])][int(spans[:, 0].min()) : int(spans[:, 1].max())])
    return {"words": words}


def _by_unit(case: Case, scores: Any) -> list[float]:
    """Scores of tokens (T,) summed over the words, or patches, that they make up."""
    units = case.units
    sums: list[float] = np.bincount(units[units >= 0], scores[units >= 0]).astype(np.float32).tolist()
    return sums


def _label(label: Any, classes: Sequence[str], head: Head) -> str | None:
    """A label in words: the class's name, names joined by commas, or the number."""
    if label is None or head == "regression":
        return None if label is None else str(label)
    return ", ".join(classes[index] for index in (label if isinstance(label, list) else [label]))
