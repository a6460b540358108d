"""The documents that methods disagree on, as plain values for the page's script; and the table as CSV."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calig.report.evaluation_data import Compared, Doubles, EvaluationData, Method
from calig.report.formats import number
from calig.report.heat import clip, visible, window
from calig.report.measures import SUBJECT
from calig.report.model import Heat
from calig.report.payload import data_uri, quantise
from calig.report.standings import Column

UNITS = 400
UNIT_CHARACTERS = 80
ID_CHARACTERS = 120
PICTURE_BYTES = 120_000


def payload(data: EvaluationData, chosen: str | None) -> dict[str, Any]:
    """What the script needs: `chosen` is the method first shown beside CA-LIG."""
    shown = [name for name in data.methods if any(name in document.scores for document in data.documents)]
    ordered = sorted(shown, key=lambda name: (name != SUBJECT, data.methods[name].title.lower()))
    return {
        "subject": SUBJECT if SUBJECT in shown else (ordered[0] if ordered else None),
        "chosen": chosen if chosen in shown else (ordered[-1] if ordered else None),
        "methods": [{"name": name, "title": data.methods[name].title} for name in ordered],
        "document": "image" if data.evaluation.modality == "image" else "document",
        "documents": [_document(document) for document in data.documents],
    }


def _document(document: Compared) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": clip(visible(document.source_id), ID_CHARACTERS),
        "label": None if document.label is None else clip(visible(document.label), ID_CHARACTERS),
        "target": clip(visible(document.target), ID_CHARACTERS),
        "predicted": clip(visible(document.predicted or ""), ID_CHARACTERS),
        "probability": None if document.probability is None else number(document.probability),
        "disagreement": number(document.disagreement, 2),
        "special": [],
        "window": None,
        "rationale": None,
    }
    if document.grid:
        small = document.thumbnail if len(document.thumbnail or b"") <= PICTURE_BYTES else None
        packed = _packed(document, document.scores)
        return fields | packed | {"grid": document.grid, "picture": data_uri(small), "units": []}
    heat, cut = window(_heat(document), UNITS, UNIT_CHARACTERS)
    marked = document.rationale
    if marked and cut:
        marked = marked[cut[0] - 1 : cut[1]]
    scores = dict(zip(document.scores, heat.layer_ig, strict=True))
    return (
        fields
        | _packed(document, scores)
        | {"second": None, "tail": "", "gaps": heat.gaps, "units": heat.units, "window": cut}
        | {"rationale": None if marked is None else [place for place, mark in enumerate(marked) if mark]}
    )


def _heat(document: Compared) -> Heat:
    """The words as the audit report's texts are, a method's scores in place of a depth's relevance."""
    count = len(document.words)
    rows = np.array(list(document.scores.values()))
    return Heat(
        gaps=("", *(" ",) * (count - 1), ""),
        units=tuple(visible(word) for word in document.words),
        special=np.zeros(count, dtype=bool),
        word_ids=np.arange(count),
        layer_ig=rows,
        scores=document.scores.get(SUBJECT, rows[0]),
    )


def _packed(document: Compared, scores: Mapping[str, Doubles]) -> dict[str, Any]:
    """Each method's scores on a scale of their own, and the rank correlation of all its scores with CA-LIG's."""
    subject = document.scores.get(SUBJECT)
    found = {}
    for method, values in scores.items():
        text, step = quantise(values)
        agreement = None if subject is None else spearman(subject, document.scores[method])
        found[method] = {"values": text, "step": step, "agreement": agreement}
    return {"scores": found}


def spearman(one: Doubles, other: Doubles) -> float | None:
    """The rank correlation of two sets of scores, ties sharing their mean rank; None where one is constant."""
    if 0 in (np.ptp(one), np.ptp(other)):
        return None
    return round(float(np.corrcoef(_ranks(one), _ranks(other))[0, 1]), 3)


def _ranks(values: Doubles) -> Doubles:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Doubles = (counts.cumsum() - (counts - 1) / 2)[places]
    return ranks


def as_csv(columns: Sequence[Column], methods: Mapping[str, Method]) -> str:
    """Every number of the table, one row a method, metric and removal, as a `data:` URI.

    A cell that a spreadsheet would take for a formula is quoted with an apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    header = (
        "mean",
        "low",
        "high",
        "difference",
        "difference_low",
        "difference_high",
        "win_rate",
        "documents",
    )
    writer.writerow(("method", "metric", "removal", *header, "passes", "seconds"))
    for column in columns:
        for name, stat in column.stats.items():
            numbers = (getattr(stat, field) for field in header)
            cost = methods[name].passes, methods[name].seconds
            safe = f"'{name}" if name.startswith(("=", "+", "-", "@")) else name
            writer.writerow((safe, stat.metric, stat.removal or "", *numbers, *cost))
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(out.getvalue().encode()).decode("ascii")
