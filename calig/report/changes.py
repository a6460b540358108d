"""The page of a comparison: what changed between a run and its reference, the words first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from calig.commands import command
from calig.listing import is_file
from calig.records import ALL_CLASSES
from calig.report import arrows, changes_prose
from calig.report.changes_data import Changes, DocumentChange, Outcome, collect
from calig.report.charts import PALETTE, Chart
from calig.report.model import Heat
from calig.report.page import environment, policy, resource
from calig.report.payload import encode
from calig.report.shifts import shifts
from calig.warehouse.inventory import writing_anew
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_tables

OUTCOMES = 40
"""Rows of outcomes shown at once."""
LEVELS = 10
"""Steps of a heat's colour scale."""


def build(warehouse: Warehouse, run_id: str, reference_id: str) -> Path:
    """Write a comparison's page into its folder, in one step: a reader sees the old page or the new one.

    Parameters
    ----------
    warehouse
        The warehouse.
    run_id, reference_id
        The full ids of the run (side b) and of what it was compared with (side a), which may be gone.

    Returns
    -------
    The page's path, ``runs/<run id>/comparisons/<reference id>/index.html`` in the warehouse.

    Raises
    ------
    InputError
        If the tables do not hold this comparison, or are missing or damaged.
    """
    with closing(open_tables(warehouse)) as connection:
        data = collect(connection, warehouse, run_id, reference_id)
    page = render(data, _report(warehouse, reference_id), warehouse.place)
    path = warehouse.comparison(run_id, reference_id) / "index.html"
    with writing_anew(warehouse, run_id, f"comparisons/{reference_id}"):
        warehouse.files.write_atomic(path, page.encode("utf-8"))
    return path


def _report(warehouse: Warehouse, reference_id: str) -> str | None:
    """Where the reference's report is, from the page's folder; None if it is gone."""
    there = is_file(warehouse.run(reference_id) / "report" / "index.html")
    return f"../../../{quote(reference_id)}/report/index.html" if there else None


@dataclass(frozen=True, slots=True)
class Unit:
    """A word of a heat with the text before it: `style` is its CSS class, `effect` in logits."""

    gap: str
    text: str
    style: str
    effect: float


@dataclass(frozen=True, slots=True)
class Shown:
    """A document with its two heats, of the reference and of the run, cut into units."""

    document: DocumentChange
    a: list[Unit]
    b: list[Unit]
    ends: tuple[str, str]


def render(data: Changes, reference_report: str | None = None, warehouse: str = "warehouse") -> str:
    """The page, at most a few megabytes whatever changed.

    Parameters
    ----------
    data
        What it shows.
    reference_report
        Where the reference's report is, from the page's folder; None if it is gone.
    warehouse
        The warehouse's folder or URL, for the command to copy.
    """
    style = resource("report.css") + resource("history.css")
    script = resource("page.js")
    comparison = data.comparison
    panels, scale = arrows.panels(data.words)
    depths = 1 + max((row.depth for row in data.layers), default=0)
    state, state_text = changes_prose.state(comparison)
    headline, rest = changes_prose.headline(comparison)
    first, others = _outcomes(data.outcomes)
    question = (
        f"SELECT * FROM comparison_words WHERE changed AND reference_id = '{comparison.reference_id}' "
        "ORDER BY abs(difference) DESC"
    )
    return (
        environment()
        .get_template("changes.html.j2")
        .render(
            data=data,
            comparison=comparison,
            run=data.run,
            reference=data.reference,
            style=Markup(style),
            script=Markup(script),
            policy=policy(style, script, False),
            payload=encode({}),
            state=state,
            state_text=state_text,
            headline=headline,
            ask=command("query", question, "--run", comparison.run_id, warehouse=warehouse),
            outcomes=first,
            further_outcomes=others,
            rest=rest,
            relation=changes_prose.relation(comparison),
            differences=changes_prose.differences(comparison.differences),
            drifts=changes_prose.drifts(comparison),
            rules=changes_prose.rules(data),
            prose=changes_prose,
            reference_report=reference_report,
            panels=panels,
            scale=scale,
            profiles=_profiles(data, depths),
            depths=depths,
            flipped=[one for one in data.documents if one.flipped and not one.text_changed],
            moved=[one for one in data.documents if not one.flipped and not one.text_changed],
            edited=[one for one in data.documents if one.text_changed],
            heats=[shown(one) for one in data.documents if one.heats is not None],
        )
    )


def _outcomes(rows: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """What is shown at once: all rows, or, where they are too many, those of all documents and what changed."""
    if len(rows) <= OUTCOMES:
        return list(rows), []
    first = [row for row in rows if row.changed or row.label == ALL_CLASSES]
    others = [row for row in rows if not (row.changed or row.label == ALL_CLASSES)]
    return first, sorted(others, key=lambda row: (row.p is None, row.p))


def _profiles(data: Changes, depths: int) -> list[tuple[str, list[Chart]]]:
    """(class, charts) of all documents, then of each class, as many as there are colours for."""
    labels = list(dict.fromkeys(row.label for row in data.layers))
    return [
        (
            "All documents" if label == ALL_CLASSES else label,
            shifts([row for row in data.layers if row.label == label], depths),
        )
        for label in labels[: PALETTE + 1]
    ]


def shown(document: DocumentChange) -> Shown:
    """A document's two heats on their common scale.

    Raises
    ------
    ValueError
        If it has none.
    """
    if document.heats is None:
        raise ValueError("a document without heats cannot be shown")
    a, b = document.heats
    return Shown(document, _units(a, document.scale), _units(b, document.scale), (_end(a), _end(b)))


def _units(heat: Heat, scale: float) -> list[Unit]:
    steps = np.rint(np.abs(heat.scores) / (scale or 1.0) * LEVELS).clip(0, LEVELS).astype(int)
    return [
        Unit(gap, text, _style(bool(special), int(step), score < 0), float(score))
        for gap, text, special, step, score in zip(
            _gaps(heat), heat.units, heat.special, steps, heat.scores, strict=True
        )
    ]


def _gaps(heat: Heat) -> Sequence[str]:
    """The text before each unit; of a pair, with what is left of the first text before the second's first unit."""
    gaps = list(heat.gaps[:-1])
    if heat.second is not None and heat.second < len(gaps):
        gaps[heat.second] = f"{heat.tail} ‖ {gaps[heat.second]}"
    return gaps


def _end(heat: Heat) -> str:
    return heat.gaps[-1]


def _style(special: bool, step: int, negative: bool) -> str:
    parts = [
        "u",
        *(["special"] if special else []),
        *(["neg"] if negative else []),
        *([f"a{step}"] if step else []),
    ]
    return " ".join(parts)
