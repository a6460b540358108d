"""The report of an evaluation: one self-contained page that says whether CA-LIG is faithful, and who is more so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb
from markupsafe import Markup

from calig.commands import command
from calig.errors import InputError
from calig.listing import is_folder
from calig.report import comparison, intervals, standings
from calig.report.charts import Chart
from calig.report.evaluation_data import Evaluation, EvaluationData, Method, Stat, collect
from calig.report.evaluation_payload import as_csv, payload
from calig.report.formats import plain
from calig.report.intervals import Intervals
from calig.report.measures import CURVES, GROUPS, SUBJECT, Group
from calig.report.page import as_yaml, environment, policy, resource
from calig.report.payload import encode
from calig.report.standings import Column
from calig.warehouse.database import attach
from calig.warehouse.layout import Warehouse
from calig.warehouse.statuses import show_statuses

TILES = 2


def build(warehouse: Warehouse, evaluation_id: str) -> Path:
    """Write an evaluation's report into its folder, in one step: a reader sees the old page or the new one.

    Parameters
    ----------
    warehouse
        The warehouse.
    evaluation_id
        The evaluation's full id.

    Returns
    -------
    The page's path, ``evaluations/<evaluation id>/report/index.html`` in the warehouse.

    Raises
    ------
    InputError
        If the evaluation, its measurements or the aggregates are missing or damaged.
    """
    folder = warehouse.root / "evaluations" / evaluation_id
    if evaluation_id in ("", ".", "..") or Path(evaluation_id).name != evaluation_id or not is_folder(folder):
        raise InputError(
            f"no evaluation {evaluation_id!r} in {warehouse.root}: run `calig evaluate CONFIG.yaml` first"
        )
    with closing(duckdb.connect()) as connection:
        show_statuses(connection, warehouse, attach(connection, warehouse.database))
        page = render(collect(connection, evaluation_id, folder), warehouse.place)
    path = folder / "report" / "index.html"
    warehouse.files.write_atomic(path, page.encode("utf-8"))
    return path


@dataclass(frozen=True, slots=True)
class Tile:
    """CA-LIG's mean of a metric, and the best one."""

    title: str
    stat: Stat
    best: float | None


@dataclass(frozen=True, slots=True)
class ColumnGroup:
    """A group of the table's columns."""

    group: Group
    title: str
    count: int


@dataclass(frozen=True, slots=True)
class Section:
    """A group of metrics with a section of its own: a chart of stages if it has one, and a panel a metric."""

    group: Group
    title: str
    heading: str
    lead: str
    chart: Chart | None
    panels: list[Intervals]


_SECTIONS: dict[Group, tuple[str, str]] = {
    "plausibility": (
        "Do people agree?",
        "Scores against the words that people marked as the reason. A faithful explanation of a model that reasons "
        "unlike people is not plausible, so this ranks after faithfulness.",
    ),
    "sanity": (
        "Do the methods pass sanity checks?",
        "An explanation should change with the model’s weights, and with nothing else.",
    ),
    "context": (
        "Do the methods see context?",
        "Whether a word’s score follows what stands around it, as the model’s use of it does.",
    ),
}


def render(data: EvaluationData, warehouse: str = "warehouse") -> str:
    """The page, at most a few megabytes whatever was evaluated; `warehouse` is its folder or URL, for the command."""
    run, of_images = data.evaluation, data.evaluation.modality == "image"
    columns = standings.columns(data)
    headline = next((column for column in columns if column.main), columns[0] if columns else None)
    drawn = comparison.styles(headline)
    findings = [
        found for column in columns if column.main and (found := standings.finding(column, data.methods))
    ]
    peer = next((method for method, style in drawn.items() if style == comparison.PEER), None)
    measured = _measured(data, headline)
    style = (
        resource("report.css") + (resource("images.css") if of_images else "") + resource("evaluation.css")
    )
    script = (
        resource("page.js") + resource("images.js" if of_images else "texts.js") + resource("evaluation.js")
    )
    state, state_text = _state(run)
    return (
        environment()
        .get_template("evaluation.html.j2")
        .render(
            data=data,
            run=run,
            style=Markup(style),
            script=Markup(script),
            policy=policy(style, script, of_images),
            payload=encode(payload(data, peer)),
            state=state,
            state_text=state_text,
            verdict=standings.verdict(findings),
            findings=findings,
            document="image" if of_images else "document",
            of_images=of_images,
            columns=columns,
            headline=headline,
            measured=measured,
            refused=[method for method in data.methods.values() if method.refusal is not None],
            subject=data.methods.get(SUBJECT),
            tiles=_tiles(columns),
            versus=_versus(columns, findings, data.methods),
            groups=_groups(columns),
            csv=as_csv(columns, data.methods),
            curves=_curves(data, columns, drawn),
            legend=[
                (method, drawn.get(method.name, "many")) for method in _highlighted_first(measured, drawn)
            ],
            cost=comparison.scatter(headline, data.methods, drawn) if headline else None,
            sections=_sections(data, columns, drawn),
            marked=any(document.rationale for document in data.documents),
            measures=list(dict.fromkeys(column.measure for column in columns)),
            made=_made(run),
            config=as_yaml(run.config),
            evaluate=command("evaluate", "evaluation.yaml", warehouse=warehouse),
        )
    )


def _state(run: Evaluation) -> tuple[str, str]:
    """The state of the evaluation as (CSS class, words)."""
    if run.status == "complete":
        return ("good", "Complete") if not run.failures else ("warn", "Complete, with failures")
    return ("open", "Still running") if run.status == "running" else ("bad", "Evaluation failed")


def _measured(data: EvaluationData, headline: Column | None) -> list[Method]:
    """The methods that were measured: as in the headline's column, then by title."""
    order = list(headline.stats) if headline else []
    found = [method for method in data.methods.values() if any(s.method == method.name for s in data.stats)]
    return sorted(
        found,
        key=lambda method: (order.index(method.name) if method.name in order else len(order), method.title),
    )


def _highlighted_first(methods: Sequence[Method], drawn: Mapping[str, str]) -> list[Method]:
    places = list(drawn)
    return sorted(
        methods, key=lambda method: places.index(method.name) if method.name in drawn else len(places)
    )


def _tiles(columns: Sequence[Column]) -> list[Tile]:
    """The first main metric and the last: of texts with rationales, faithfulness and plausibility."""
    known = [column for column in columns if column.main and SUBJECT in column.stats]
    chosen = [*known[:1], *(known[-1:] if len(known) > 1 else ())][:TILES]
    return [
        Tile(column.title, column.stats[SUBJECT], column.stats[column.best].mean if column.best else None)
        for column in chosen
    ]


def _versus(
    columns: Sequence[Column], findings: Sequence[standings.Finding], methods: Mapping[str, Method]
) -> list[tuple[Intervals, standings.Finding | None]]:
    said = {(found.column.measure.name, found.column.removal): found for found in findings}
    return [
        (drawn, said.get((column.measure.name, column.removal)))
        for column in columns
        if column.main and (drawn := intervals.differences(column, methods))
    ]


def _groups(columns: Sequence[Column]) -> list[ColumnGroup]:
    counts = {group: sum(column.measure.group == group for column in columns) for group in GROUPS}
    return [ColumnGroup(group, GROUPS[group], count) for group, count in counts.items() if count]


def _curves(data: EvaluationData, columns: Sequence[Column], drawn: Mapping[str, str]) -> list[Chart]:
    """One chart per removal and metric, in the table's order of removals."""
    removals = list(dict.fromkeys(column.removal for column in columns if column.removal is not None))
    removals += [
        stat.removal
        for stat in data.stats
        if stat.metric in CURVES and stat.removal is not None and stat.removal not in removals
    ]
    found = (
        comparison.curves(data, metric, removal, drawn)
        for removal in dict.fromkeys(removals)
        for metric in CURVES
    )
    return [chart for chart in found if chart]


def _sections(data: EvaluationData, columns: Sequence[Column], drawn: Mapping[str, str]) -> list[Section]:
    found = []
    for group, (heading, lead) in _SECTIONS.items():
        own = [column for column in columns if column.measure.group == group]
        if not own:
            continue
        chart = comparison.curves(data, "randomisation", None, drawn) if group == "sanity" else None
        panels = [intervals.means(column, data.methods) for column in own]
        found.append(Section(group, GROUPS[group], heading, lead, chart, panels))
    return found


def _made(run: Evaluation) -> dict[str, str]:
    """How what was evaluated was set, in words; fixed steps ask for no tolerance."""
    steps = (run.config.get("method") or {}).get("steps")
    return {
        "Target": run.target,
        "Output": run.output,
        "Baseline": run.baseline,
        "Fusion": f"{run.fusion}, λ = {plain(run.weight)}",
        **({"Tolerance": plain(run.tolerance)} if steps is None else {"Steps": str(steps)}),
        "Seed": str(run.seed),
    }
