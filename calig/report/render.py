"""ReportData to one self-contained HTML page, under a strict Content-Security-Policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from markupsafe import Markup

from calig.commands import command
from calig.report import charts, maps, prose
from calig.report.model import FEW_DOCUMENTS, ClassRow, RegionEffect, ReportData, WordEffect
from calig.report.page import as_yaml, environment, policy, resource
from calig.report.payload import encode, payload
from calig.report.prose import BORDER
from calig.report.sample import GROUPS, groups
from calig.report.since import Opening, told
from calig.report.terms import terms

CLASSES_SHOWN = 10
CLASSES_OPEN = 3
MATRIX_CLASSES = 15
CONFUSIONS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class WordPanel:
    """One class's words: (word, its bar) for and against, strongest first; special tokens apart."""

    label: str
    documents: int
    special_share: float | None
    support: list[tuple[WordEffect, charts.Bar]]
    oppose: list[tuple[WordEffect, charts.Bar]]


@dataclass(frozen=True, slots=True)
class ClassLine:
    """A class in the table of those that are too many for panels: what acts most for and against it.

    `place` is that of its panel, counted from 1; None where it has none.
    """

    row: ClassRow
    place: int | None
    support: WordEffect | RegionEffect | None
    oppose: WordEffect | RegionEffect | None


def render(data: ReportData, opening: Opening = Opening(), warehouse: str = "warehouse") -> str:  # noqa: B008
    """The page, at most a few megabytes whatever the corpus.

    Parameters
    ----------
    data
        What it shows of the run.
    opening
        What it says of gates and other runs.
    warehouse
        The warehouse's folder or URL, for the commands to copy.
    """
    of_images = data.run.modality == "image"
    style = resource("report.css") + (resource("images.css") if of_images else "")
    style += resource("since.css") if opening.gates or opening.changes or opening.watched else ""
    body = resource("images.js" if of_images else "texts.js")
    script = resource("page.js") + body + resource("explorer.js")
    called = terms(data.run.head, data.run.modality)
    ranked = _ranked(data)
    shown = ranked[:CLASSES_SHOWN]
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
            payload=encode(payload(data, warehouse)),
            state=state,
            state_text=state_text,
            verdict=prose.verdict(data.run),
            rows=prose.rows(data.run),
            label_order=prose.label_order(data.run),
            pointers=prose.pointers(data, opening.gates),
            overview=_overview(data, ranked) if len(ranked) > CLASSES_SHOWN else [],
            panels=maps.panels(data, shown, called.unit) if of_images else _panels(data, shown),
            panels_open=0 if data.run.few else CLASSES_OPEN,
            few_documents=FEW_DOCUMENTS,
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
            converged_share=prose.CONVERGED_SHARE,
            confusions=_confusions(data) if confused and len(labels) > MATRIX_CLASSES else [],
            counts=_counts(data),
            config=as_yaml(data.run.config),
            audit=command("audit", "audit.yaml", warehouse=warehouse),
            told=lambda detail: told(detail, warehouse),
            queries=prose.queries(data.run, warehouse),
        )
    )


def _ranked(data: ReportData) -> list[ClassRow]:
    """The explained classes, most frequent first; where they are too many for panels, those most worth opening.

    Worth opening are those in which a word, or a region, acts most, its interval without zero: a class that hangs on
    one word may have a shortcut.
    """
    explained = sorted((row for row in data.classes if row.explained), key=lambda row: -row.explained)
    if len(explained) <= CLASSES_SHOWN:
        return explained
    most: dict[str, float] = {}
    for effect in _effects(data):
        if effect.clear:
            most[effect.label] = max(most.get(effect.label, 0.0), abs(effect.effect))
    return sorted(explained, key=lambda row: -most.get(row.label, 0.0))


def _effects(data: ReportData) -> list[WordEffect | RegionEffect]:
    return [*data.words, *(one for one in data.regions if one.region != BORDER)]


def _overview(data: ReportData, ranked: Sequence[ClassRow]) -> list[ClassLine]:
    """A line per class: of what acts for and against it, clear effects first, then the largest."""
    found: dict[tuple[str, bool], WordEffect | RegionEffect] = {}
    for effect in sorted(_effects(data), key=lambda one: (not one.clear, -abs(one.effect))):
        found.setdefault((effect.label, effect.supports), effect)
    return [
        ClassLine(
            row,
            place if place <= CLASSES_SHOWN else None,
            found.get((row.label, True)),
            found.get((row.label, False)),
        )
        for place, row in enumerate(ranked, start=1)
    ]


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


def _confusions(data: ReportData) -> list[tuple[str, str, int]]:
    """(label, prediction, documents) of the classes taken for each other most often."""
    wrong = [
        (label, predicted, count)
        for (label, predicted), count in data.confusion.items()
        if label != predicted
    ]
    return sorted(wrong, key=lambda one: (-one[2], one[:2]))[:CONFUSIONS_SHOWN]


def _counts(data: ReportData) -> Mapping[str, int]:
    kinds = [kind for document in data.documents for kind, _ in document.reasons]
    return {group.kind: kinds.count(group.kind) for group in GROUPS}
