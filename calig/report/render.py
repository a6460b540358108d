"""ReportData to one self-contained HTML page, under a strict Content-Security-Policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from markupsafe import Markup

from calig.report import charts, maps, prose
from calig.report.model import ClassRow, ReportData, WordEffect
from calig.report.page import as_yaml, environment, policy, resource
from calig.report.payload import encode, payload
from calig.report.sample import GROUPS, groups
from calig.report.since import Opening
from calig.report.terms import terms

CLASSES_SHOWN = 24
CLASSES_OPEN = 3
MATRIX_CLASSES = 15


@dataclass(frozen=True, slots=True)
class WordPanel:
    """One class's words: (word, its bar) for and against, strongest first; special tokens apart."""

    label: str
    documents: int
    special_share: float | None
    support: list[tuple[WordEffect, charts.Bar]]
    oppose: list[tuple[WordEffect, charts.Bar]]


def render(data: ReportData, opening: Opening = Opening()) -> str:  # noqa: B008
    """The page, at most a few megabytes whatever the corpus; `opening` is what it says of gates and other runs."""
    of_images = data.run.modality == "image"
    style = resource("report.css") + (resource("images.css") if of_images else "")
    style += resource("since.css") if opening.gates or opening.changes or opening.watched else ""
    body = resource("images.js" if of_images else "texts.js")
    script = resource("page.js") + body + resource("explorer.js")
    called = terms(data.run.head, data.run.modality)
    shown = _shown(data)
    median = prose.median_settling(data.settling, data.run.depths)
    state, state_text = prose.gate(data.run, opening.gates)
    labels = [row.label for row in data.classes]
    confused = data.run.head in ("single_label", "binary")
    return (
        environment()
        .get_template("template.html.j2")
        .render(
            data=data,
            run=data.run,
            opening=opening,
            readable={document.doc_id for document in data.documents},
            history=f"../../../history/{quote(data.run.name)}/index.html",
            style=Markup(style),
            script=Markup(script),
            policy=policy(style, script, of_images),
            payload=encode(payload(data)),
            state=state,
            state_text=state_text,
            verdict=prose.verdict(data.run),
            rows=prose.rows(data.run),
            label_order=prose.label_order(data.run),
            pointers=prose.pointers(data),
            panels=maps.panels(data, shown, called.unit) if of_images else _panels(data, shown),
            panels_open=CLASSES_OPEN,
            scale=maps.bar_scale(data.regions) if of_images else charts.scale_of(data.words),
            charts=charts.profile(data.layers, labels, data.run.depths, median, called, opening.behind),
            places=charts.places(data.places, labels, data.run.depths, called) if data.places else [],
            settling=charts.settling(data.settling, data.run.depths, called),
            median_settling=median,
            legend=[(label, charts.line_style(label, labels)) for label in labels],
            few_classes=len(labels) <= charts.PALETTE,
            matrix=_matrix(data)
            if confused and 0 < len(labels) <= MATRIX_CLASSES and data.confusion
            else None,
            groups=groups(data.run.head, data.run.modality),
            terms=called,
            of_images=of_images,
            border_lift=prose.BORDER_LIFT,
            counts=_counts(data),
            config=as_yaml(data.run.config),
            queries=prose.queries(data.run),
        )
    )


def _shown(data: ReportData) -> list[ClassRow]:
    """The classes that get a panel: those explained most often."""
    ordered = sorted(data.classes, key=lambda row: -row.explained)[:CLASSES_SHOWN]
    return [row for row in ordered if row.explained]


def _panels(data: ReportData, classes: Sequence[ClassRow]) -> list[WordPanel]:
    scale = charts.scale_of(data.words)
    return [_panel(data, row, scale) for row in classes]


def _panel(data: ReportData, row: ClassRow, scale: float) -> WordPanel:
    bars = [(word, charts.bar(word, scale)) for word in data.words if word.label == row.label]
    return WordPanel(
        row.label,
        row.explained,
        prose.special_share(data, row.label),
        [found for found in bars if found[0].supports],
        [found for found in bars if not found[0].supports],
    )


def _matrix(data: ReportData) -> list[tuple[str, list[tuple[str, int, float]]]]:
    """Per labelled class: (predicted class, documents, share of the row)."""
    rows = []
    for row in data.classes:
        counts = [data.confusion.get((row.label, other.label), 0) for other in data.classes]
        total = sum(counts) or 1
        cells = [
            (other.label, count, count / total) for other, count in zip(data.classes, counts, strict=True)
        ]
        rows.append((row.label, cells))
    return rows


def _counts(data: ReportData) -> Mapping[str, int]:
    kinds = [kind for document in data.documents for kind, _ in document.reasons]
    return {group.kind: kinds.count(group.kind) for group in GROUPS}
