"""The page of an audit's history: what was measured of it night after night, one column a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from calig.errors import InputError
from calig.report import since
from calig.report.changes_prose import PSI_LARGE, PSI_SMALL
from calig.report.charts import PALETTE
from calig.report.formats import duration, integer, number, plural
from calig.report.night_charts import Crossing, NightChart, Series, heat, lines, strip
from calig.report.page import environment, policy, resource
from calig.report.payload import encode
from calig.report.shifts import LAYER_MEASURES
from calig.report.since import Gate
from calig.report.trend_data import Compared, Night, collect
from calig.warehouse.gates import SEE
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_tables
from calig.warehouse.slow_drift import GATE, SlowDrift, stated

CLASSES = 10
"""Classes whose share is drawn, those predicted most often."""
TERMS = 5
"""Watched terms drawn per list, besides the list as a whole."""
EVENTS = 12
"""Events listed, newest first."""
CROSSINGS = 3
"""Crossings of slow drift put into words under a chart, newest first."""
NO_DRIFT = SlowDrift((), ())


def build(warehouse: Warehouse, name: str) -> Path:
    """Write the page of an audit's history, in one step: a reader sees the old page or the new one.

    Parameters
    ----------
    warehouse
        The warehouse.
    name
        The audit's name; its complete runs are on the page.

    Returns
    -------
    The page's path, ``history/<name>/index.html`` in the warehouse.

    Raises
    ------
    InputError
        If the audit has no complete run, its name is no folder's, or the aggregates are missing or damaged.
    """
    if name in ("", ".", "..") or Path(name).name != name:
        raise InputError(f"audit name {name!r}: cannot be a folder's name; use letters, digits, - _ and dots")
    with closing(open_tables(warehouse)) as connection:
        page = render(name, collect(connection, warehouse, name), stated(connection, warehouse, name))
    path = warehouse.root / "history" / name / "index.html"
    warehouse.files.write_atomic(path, page.encode("utf-8"))
    return path


@dataclass(frozen=True, slots=True)
class Part:
    """A section of the page and its charts; `wide` ones take the whole width."""

    key: str
    title: str
    lead: str
    charts: list[NightChart]
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A line at a night: a new model or a tag."""

    night: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a night, in a line; `page` leads to more."""

    night: Night
    kind: str
    text: str
    page: str | None


def render(name: str, nights: Sequence[Night], drift: SlowDrift = NO_DRIFT) -> str:
    """The page of an audit's nights, oldest first, and what moved slowly over them: a few megabytes at most."""
    style = resource("report.css") + resource("history.css") + resource("trend.css")
    script = resource("page.js") + resource("trend.js")
    parts = [_with_crossings(part, nights, drift) for part in sections(nights)]
    newest = nights[-1]
    state, state_text = since.verdict(newest.gates) if newest.gates else ("good", "Complete")
    found = events(nights, drift)
    return (
        environment()
        .get_template("trend.html.j2")
        .render(
            name=name,
            nights=nights,
            newest=newest,
            days=[night.day for night in nights],
            style=Markup(style),
            script=Markup(script),
            policy=policy(style, script, False),
            payload=encode(payload(nights, parts)),
            state=state,
            state_text=state_text,
            verdict=verdict(name, nights),
            parts=parts,
            marks=marks(nights),
            slow=any(chart.crossings for part in parts for chart in part.charts),
            crossings_shown=CROSSINGS,
            events=found[:EVENTS],
            more_events=len(found) - len(found[:EVENTS]),
            failed=[night for night in nights if any(gate.state == "fails" for gate in night.gates)],
            changes=sum(night.model_changed for night in nights),
            references=list(dict.fromkeys(one.requested for night in nights for one in night.comparisons)),
            against={night.run_id: {one.requested: one for one in night.comparisons} for night in nights},
            psi=(PSI_SMALL, PSI_LARGE),
        )
    )


def verdict(name: str, nights: Sequence[Night]) -> str:
    """The history in one sentence."""
    failed = sum(any(gate.state == "fails" for gate in night.gates) for night in nights)
    models = sum(night.model_changed for night in nights)
    parts = [f"{plural(len(nights), 'run')} of {name}"]
    if any(night.gates for night in nights):
        parts.append(f"{integer(failed)} failed a gate" if failed else "none failed a gate")
    if models:
        parts.append(
            "the model changed once" if models == 1 else f"the model changed {integer(models)} times"
        )
    return "; ".join(parts) + "."


def marks(nights: Sequence[Night]) -> list[Mark]:
    """New models and tags."""
    found = []
    for place, night in enumerate(nights):
        if night.model_changed:
            found.append(Mark(place, "model", f"new model, {night.title}"))
        found += [Mark(place, "tag", f"{tag}, {night.title}") for tag in night.tags]
    return found


def events(nights: Sequence[Night], drift: SlowDrift = NO_DRIFT) -> list[Event]:
    """What is new in each night, newest first: gates, slow drift, changes since other runs, new models, tags.

    A gate that fails for many nights is news in the first one, and so is what differs from a run that stays the same;
    each difference from the run before is news.
    """
    found: list[Event] = []
    slow: dict[str, list[str]] = {}
    for followed, alarm in drift.alarms():
        slow.setdefault(drift.runs[alarm.found].run_id, []).append(drift.sentence(followed, alarm))
    for place, night in enumerate(nights):
        before = nights[place - 1] if place else None
        own = [*_gate_events(night, before), *_change_events(night, before)]
        if night.run_id in slow and all(gate.name != GATE for gate in night.gates):
            first, *others = slow[night.run_id]
            more = f"; and {len(others)} more" if others else ""
            own.insert(0, Event(night, "slow", f"slow drift: {first}{more}", night.page))
        if night.model_changed:
            own.append(
                Event(night, "model", f"the model’s weights changed ({night.row['model_id']})", night.page)
            )
        own += [Event(night, "tag", f"tagged {tag}", night.page) for tag in night.tags]
        found += reversed(own)
    return found[::-1]


def _gate_events(night: Night, before: Night | None) -> list[Event]:
    found = []
    for name in dict.fromkeys(gate.name for gate in night.gates):
        gate, last = (
            _worst([one for one in of.gates if one.name == name]) if of else None for of in (night, before)
        )
        state, was = (one.state if one else "holds" for one in (gate, last))
        if gate and state in ("fails", "warns") and state != was:
            finding = gate.detail.rpartition(SEE)[0] or gate.detail or gate.measured
            text = ": ".join(filter(None, (name, finding)))
            found.append(Event(night, state, text, night.page))
        # slow_drift fails in one run for a change, and then begins again: that is no recovery
        elif state == "holds" and was in ("fails", "warns") and name != GATE:
            found.append(Event(night, "holds", f"{name} holds again", night.page))
    return found


def _change_events(night: Night, before: Night | None) -> list[Event]:
    last = {one.requested: one for one in before.comparisons} if before else {}
    news: dict[str, list[Compared]] = {}
    for one in night.comparisons:
        same = last.get(one.requested)
        known = same.kinds if same and same.reference_id == one.reference_id else frozenset()
        if one.changed and (not one.kinds or one.kinds - known):
            news.setdefault(one.reference_id, []).append(one)
    return [
        Event(
            night,
            "changed",
            f"since {', '.join(one.requested for one in own)}: {own[0].verdict or 'changed.'}",
            own[0].page,
        )
        for own in news.values()
    ]


def sections(nights: Sequence[Night]) -> list[Part]:
    """The page's sections that there is something to draw in."""
    parts = [
        Part(
            "gates",
            "Gates",
            "Full: fails. Half: warns. Thin: holds. A dot: not checked.",
            _gates(nights),
            wide=True,
        ),
        Part("outcomes", "Outcomes", "How the model did, and what it predicted.", _outcomes(nights)),
        Part(
            "drift",
            "Drift",
            f"How far each run is from what it was compared with. Rule of thumb for PSI: below {PSI_SMALL} little, "
            f"to {PSI_LARGE} some, above that much.",
            _drift(nights),
        ),
        Part(
            "watched",
            "Watched terms",
            "Each list’s part of the relevance of all words, and what its terms do.",
            _watched(nights),
        ),
        Part("layers", "Layer profile", "Depth by night; depth 0 is at the bottom.", _layers(nights)),
        Part("cost", "Cost", "What each run took, and what it could reuse.", _cost(nights)),
    ]
    return [part for part in parts if part.charts]


def _with_crossings(part: Part, nights: Sequence[Night], drift: SlowDrift) -> Part:
    """The section, its charts with what the control of slow drift found in their numbers."""
    places = {night.run_id: place for place, night in enumerate(nights)}

    def crossings(metric: str) -> tuple[Crossing, ...]:
        return tuple(
            Crossing(
                places[drift.runs[alarm.since].run_id],
                places[drift.runs[alarm.found].run_id],
                _sentence(drift.sentence(followed, alarm)),
            )
            for followed, alarm in drift.alarms()
            if followed.metric == metric or followed.metric.startswith((f"{metric}/", f"{metric}:"))
        )

    charts = [
        replace(chart, crossings=crossings(chart.metric)) if chart.metric else chart for chart in part.charts
    ]
    return replace(part, charts=charts)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _there(*charts: NightChart | None) -> list[NightChart]:
    return [chart for chart in charts if chart is not None]


def _style(place: int, count: int) -> str:
    return f"c{place}" if count <= PALETTE else "many"


def _gates(nights: Sequence[Night]) -> list[NightChart]:
    names = list(dict.fromkeys(gate.name for night in reversed(nights) for gate in night.gates))
    rows = []
    for name in names:
        worst = [_worst([gate for gate in night.gates if gate.name == name]) for night in nights]
        texts = [("", "") if gate is None else (gate.state, _said(gate)) for gate in worst]
        rows.append((name, texts))
    return _there(strip("gates", "Gates", "one row a gate, one column a run", rows))


def _worst(gates: Sequence[Gate]) -> Gate | None:
    order = ("fails", "warns", "unchecked", "holds")
    return min(gates, key=lambda gate: order.index(gate.state), default=None)


def _said(gate: Gate) -> str:
    return ", ".join(filter(None, (gate.said, "" if gate.value is None else number(gate.value))))


def _outcomes(nights: Sequence[Night]) -> list[NightChart]:
    def of(column: str) -> list[float | None]:
        return [night.number(column) for night in nights]

    labels = list(dict.fromkeys(label for night in nights for label in night.shares))
    predicted = {label: sum(night.shares.get(label, 0.0) for night in nights) for label in labels}
    most = sorted(labels, key=lambda label: -predicted[label])[:CLASSES]
    shown = [label for label in labels if label in most and (predicted[label] or len(labels) <= CLASSES)]
    shares = [
        Series(label, _style(place, len(shown)), [night.shares.get(label) for night in nights])
        for place, label in enumerate(shown)
    ]
    return _there(
        lines(
            "accuracy",
            "Accuracy",
            "share of labelled documents predicted right",
            [Series("accuracy", "all", of("accuracy"))],
            metric="accuracy",
        ),
        lines(
            "error",
            "Mean absolute error",
            "of labelled documents",
            [Series("error", "all", of("mean_absolute_error"))],
            metric="mean_absolute_error",
        ),
        lines("shares", "Predicted classes", "share of predictions", shares, write="percent", low=0.0),
        lines(
            "documents",
            "Documents",
            "in the run",
            [Series("documents", "all", of("documents"))],
            write="integer",
            low=0.0,
        ),
        lines(
            "failures",
            "Failures",
            "documents without an explanation",
            [Series("failures", "all", of("failures"))],
            write="integer",
            low=0.0,
        ),
    )


def _drift(nights: Sequence[Night]) -> list[NightChart]:
    references = list(dict.fromkeys(one.requested for night in nights for one in night.comparisons))

    def against(column: str) -> list[Series]:
        return [
            Series(
                reference,
                _style(place, len(references)),
                [_of(night.comparisons, reference, column) for night in nights],
            )
            for place, reference in enumerate(references)
        ]

    bounds = (PSI_SMALL, PSI_LARGE)
    return _there(
        lines(
            "class_psi",
            "Predicted classes",
            "population stability index",
            against("class_psi"),
            low=0.0,
            rules=bounds,
        ),
        lines(
            "layer_psi",
            "Layer profile",
            "population stability index, the largest",
            against("layer_psi"),
            low=0.0,
            rules=bounds,
        ),
        lines(
            "words",
            "Words changed",
            "words called changed",
            against("words_changed"),
            write="integer",
            low=0.0,
        ),
        lines(
            "measures",
            "Layers changed",
            "measures of the layer profile called changed",
            against("layers_changed"),
            write="integer",
            low=0.0,
        ),
    )


def _of(comparisons: Sequence[Compared], reference: str, column: str) -> float | None:
    value = next((getattr(one, column) for one in comparisons if one.requested == reference), None)
    return None if value is None else float(value)


def _watched(nights: Sequence[Night]) -> list[NightChart]:
    known = list(dict.fromkeys(key for night in nights for key in night.watched))
    charts = []
    for place, listed in enumerate(dict.fromkeys(name for name, _ in known)):
        terms = [term for name, term in known if name == listed and term != "*"]
        most = sorted(
            terms, key=lambda term: -max(_watch(night, listed, term, 0) or 0.0 for night in nights)
        )[:TERMS]
        shown = [term for term in terms if term in most]
        left = len(terms) - len(shown)
        note = f"; {integer(left)} more terms in the table watched" if left else ""
        for part, (what, title, write) in enumerate(
            (
                ("share of relevance", "share", "percent"),
                ("effect where it stands, logits", "effect", "signed"),
            )
        ):
            series = [
                Series(
                    "all terms" if term == "*" else term,
                    style,
                    [_watch(night, listed, term, part) for night in nights],
                )
                for term, style in [("*", "all"), *((term, f"c{index}") for index, term in enumerate(shown))]
                if (listed, term) in known
            ]
            charts.append(
                lines(
                    f"watched-{place}-{title}",
                    f"{listed}: {title}",
                    what + note,
                    series,
                    write=write,
                    low=0.0,
                    metric=f"watched.{title}:{listed}",
                )
            )
    return _there(*charts)


def _watch(night: Night, listed: str, term: str, part: int) -> float | None:
    return night.watched.get((listed, term), (None, None))[part]


def _layers(nights: Sequence[Night]) -> list[NightChart]:
    depths = (
        max((depth for night in nights for own in night.layers.values() for depth in own), default=-1) + 1
    )
    charts = []
    for measure in LAYER_MEASURES:
        rows = [
            (depth, [night.layers.get(measure.name, {}).get(depth) for night in nights])
            for depth in range(depths)
        ]
        if any(value is not None for _, row in rows for value in row):
            charts.append(
                heat(
                    f"layer-{measure.name}",
                    measure.title,
                    measure.note,
                    rows,
                    share=measure.share,
                    metric=f"layer.{measure.name}",
                )
            )
    return _there(*charts)


def _cost(nights: Sequence[Night]) -> list[NightChart]:
    def of(column: str) -> list[float | None]:
        return [night.number(column) for night in nights]

    documents = [Series("computed", "c0", of("attributed")), Series("reused", "c1", of("reused"))]
    seconds = [Series("seconds", "all", [night.seconds for night in nights])]
    return _there(
        lines("seconds", "Time", "seconds, all stages", seconds, low=0.0),
        lines(
            "computed",
            "Explanations",
            "documents computed, and taken from earlier runs",
            documents,
            write="integer",
            low=0.0,
        ),
    )


def payload(nights: Sequence[Night], parts: Sequence[Part]) -> dict[str, Any]:
    """What the page's script says of each night, as text."""
    return {
        "nights": [
            {
                "title": night.title,
                "run": night.run_id,
                "page": night.page,
                "notes": [*(["new model"] if night.model_changed else []), *night.tags],
                "state": since.verdict(night.gates) if night.gates else ("good", "complete"),
                "numbers": f"{integer(night.number('documents'))} documents, {duration(night.seconds)}",
            }
            for night in nights
        ],
        "charts": {
            chart.key: [reading.texts for reading in chart.readings]
            for part in parts
            for chart in part.charts
        },
    }
