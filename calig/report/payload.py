"""The document explorer's data: texts and pictures, relevance as 16-bit integers on a scale per document."""

from __future__ import annotations

import base64
import json
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from calig.commands import command
from calig.report.formats import number, percent, signed
from calig.report.heat import visible
from calig.report.model import Heat, Picture, ReportData, RunSummary, SampleDocument
from calig.report.sample import groups
from calig.report.terms import terms

_STEPS = 32_767
_PICTURES = {b"\x89PNG": "image/png", b"\xff\xd8": "image/jpeg"}
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def encode(value: Any) -> Markup:
    """JSON that is safe inside a script element: no `<`, `>`, `&` or line separators as such.

    Raises
    ------
    ValueError
        If a number is not finite, which JSON cannot hold.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup("".join(_ESCAPES.get(character, character) for character in text))


def payload(data: ReportData, warehouse: str) -> dict[str, Any]:
    """What the explorer needs, as plain JSON values; `warehouse` is where its commands ask."""
    words = sorted({word.word for word in data.words})
    index = {word: place for place, word in enumerate(words)}
    head, modality = data.run.head, data.run.modality
    called = terms(head, modality)
    return {
        "head": head,
        "unit": called.unit,
        "document": called.document,
        "items": called.items,
        "run": data.run.run_id,
        "depths": data.run.depths,
        "classes": list(dict.fromkeys(visible(document.target) for document in data.documents)),
        "groups": [
            {"kind": group.kind, "title": group.title, "note": group.note}
            for group in groups(head, modality)
            if any(group.kind == kind for document in data.documents for kind, _ in document.reasons)
        ],
        "words": [visible(word) for word in words],
        "ask": _ask(data.run, warehouse),
        "literals": [literal(word) for word in words],
        "documents": [_document(document, index, data.run) for document in data.documents],
    }


def _ask(run: RunSummary, warehouse: str) -> list[str]:
    """The command that asks for a word in the whole run: what stands before the word's literal, and behind it."""
    sql = "SELECT doc_id, text, logit_effect FROM words WHERE word = ''"
    before, empty, after = command("query", sql, "--run", run.run_id, warehouse=warehouse).partition("= ''")
    return [before + empty.removesuffix("''"), after]


def literal(word: str) -> str:
    """A word in SQL, for a shell's double quotes: what the shell would read, or does not print, is `chr(…)`."""
    parts = []
    for kept, group in groupby(word, lambda character: character.isprintable() and character not in '"$`\\!'):
        text = "".join(group)
        doubled = text.replace("'", "''")
        parts.append(f"'{doubled}'" if kept else " || ".join(f"chr({ord(character)})" for character in text))
    return " || ".join(parts)


def quantise(values: npt.NDArray[np.float64]) -> tuple[str, float]:
    """Little-endian int16 in base64, and the size of one step: value = integer · step ± half a step."""
    largest = float(np.max(np.abs(values), initial=0.0))
    step = largest / _STEPS or 1.0
    return base64.b64encode(np.rint(values / step).astype("<i2").tobytes()).decode("ascii"), step


def colour_maximum(document: SampleDocument) -> float:
    """The end of the document's colour scale in logits: its largest |IG| of a word at any depth.

    Special tokens, which hold nearly everything at the last depth, do not stretch it.
    """
    content = document.heat.layer_ig[:, ~document.heat.special]
    return float(np.max(np.abs(content if content.size else document.heat.layer_ig), initial=0.0))


def _document(document: SampleDocument, index: dict[str, int], run: RunSummary) -> dict[str, Any]:
    heat = document.heat
    effects, step = quantise(heat.layer_ig)
    scores, score_step = quantise(heat.scores)
    content = heat.scores[~heat.special]
    return {
        "id": visible(document.source_id),
        "reasons": [{"kind": kind, "text": _reason(kind, weight, run)} for kind, weight in document.reasons],
        "label": _label(document),
        "value": number(document.logit),
        "missed": None if document.label_value is None else signed(document.logit - document.label_value),
        "predicted": visible(document.predicted),
        "target": visible(document.target),
        "correct": document.correct,
        "probability": number(document.probability),
        "change": _finite(document.logit - document.baseline_logit),
        "estimate": number(document.error_estimate, 2),
        "converged": document.converged if run.steps is None else None,
        "tokens": document.tokens,
        "truncated": document.truncated,
        "settling": document.settling_depth,
        "window": document.window,
        "special": [int(place) for place in np.flatnonzero(heat.special)],
        "effects": effects,
        "step": step,
        "max": colour_maximum(document),
        "scores": scores,
        "scoreStep": score_step,
        "scoreMax": float(np.max(np.abs(content if content.size else heat.scores), initial=0.0)),
        "words": {
            str(index[word]): places for word, places in document.words.items() if places and word in index
        },
    } | (_text(heat) if document.picture is None else _picture(document, document.picture))


def _label(document: SampleDocument) -> str | None:
    if document.label_value is not None:
        return number(document.label_value)
    return None if document.label is None else visible(document.label)


def _text(heat: Heat) -> dict[str, Any]:
    return {"second": heat.second, "tail": heat.tail, "gaps": heat.gaps, "units": heat.units}


def _picture(document: SampleDocument, picture: Picture) -> dict[str, Any]:
    """Units are the special tokens; the patches, which follow row by row, are named by the grid."""
    special = document.heat.special
    return {
        "grid": picture.grid,
        "picture": data_uri(picture.thumbnail),
        "baseline": number(document.baseline_logit),
        "units": [unit for unit, mark in zip(document.heat.units, special, strict=True) if mark],
    }


def data_uri(picture: bytes | None) -> str | None:
    """A PNG or JPEG file as a `data:` URI; None for no picture, and for anything else."""
    for start, kind in _PICTURES.items():
        if picture is not None and picture.startswith(start):
            return f"data:{kind};base64,{base64.b64encode(picture).decode('ascii')}"
    return None


def _reason(kind: str, weight: float, run: RunSummary) -> str:
    regression = run.head == "regression"
    texts = {
        "error": f"off by {number(weight)}" if regression else f"p = {number(weight)}",
        "one_word": f"{percent(weight)} on one {terms(run.head, run.modality).item}",
        "against": f"{percent(weight)} {'downwards' if regression else 'against'}",
        "unconverged": f"error {number(weight, 2)}",
    }
    return texts.get(kind, "")


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
