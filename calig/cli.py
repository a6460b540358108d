"""The command line: `calig`, also `python -m calig`. Heavy imports happen inside the commands that need them.

Exit codes: 0 fine; 1 a gate of the audit failed; 2 the user's input is wrong; 3 something broke; 130 Ctrl-C;
143 SIGTERM.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import stat
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from calig.advice import RESUMED, advice
from calig.commands import command, complete
from calig.errors import DocumentError, GateError, InputError, ServerError

if TYPE_CHECKING:
    from calig.attribution.explainer import Explainer
    from calig.config import AuditConfig
    from calig.warehouse.gates import GateOutcome
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.plans import Plan
    from calig.warehouse.query import QueryResult

app = typer.Typer(
    help="Corpus-scale, layer-wise explanation of transformer classifiers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_SYSTEM = os.name
_INTERRUPTED = 130
_TERMINATED = 143
_SILENCE = 2.0
"""Seconds after which a command that waits for its standard input says so."""
_TERMS = 8
"""Watched terms that are named."""
_BETWEEN = 10.0
"""Seconds between two lines about the same count, where there is no terminal."""
_LOCK_SECONDS = 60.0
"""How long a command waits for another writer of the warehouse."""
_UsageError: Any = typer.BadParameter.__bases__[0]
"""What typer raises on a wrong command or option: click's class, or in newer versions a copy of it."""
out = Console(highlight=False, width=None if sys.stdout and sys.stdout.isatty() else 160)
err = Console(stderr=True, highlight=False)

_WAREHOUSE = Annotated[str, typer.Option(help="The warehouse's folder, or its URL (s3://…).")]
_OVERRIDES = Annotated[
    list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override one value; may be repeated.")
]
_OTHER_WAREHOUSE = Annotated[
    str | None, typer.Option(help="The warehouse's folder or URL, instead of the YAML's.")
]
_REF = "latest, previous, a tag, a run's id, an audit's name (its latest run), or a unique prefix of an id"
_RUN = Annotated[str, typer.Option(help=f"The run: {_REF}; or all.")]


class Format(StrEnum):
    """How a query's answer is printed."""

    table = "table"
    csv = "csv"
    json = "json"


class PlanFormat(StrEnum):
    """How a plan is printed."""

    table = "table"
    json = "json"


@app.command()
def demo(
    folder: Annotated[
        Path | None, typer.Option(help="Where the demo's files go; calig-demo, or calig-demo-images.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of corpus and model.")] = 1,
    leak: Annotated[bool, typer.Option(help="Plant the shortcut in the training corpus.")] = True,
    images: Annotated[
        bool,
        typer.Option("--images", help="Images of digits and a vision transformer, not reviews and a BERT."),
    ] = False,
) -> None:
    """Train a small model on reviews or images with a planted shortcut, audit it, show what the audit finds."""
    _quiet()
    from calig.config import parse_config
    from calig.demo import DIGITS, REVIEWS
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.query import query as run_query

    chosen = DIGITS if images else REVIEWS
    folder = folder or chosen.folder
    config = parse_config(chosen.config(folder))
    warehouse = Warehouse.open(config.warehouse)
    _begin_prefect()
    planted = " with a planted shortcut" if leak else ""
    err.print(
        f"writing {chosen.material}{planted} and training a small {chosen.model} on them …", soft_wrap=True
    )
    trained = chosen.train(folder, seed, leak)
    err.print(f"  accuracy on held-out {chosen.material} {trained.accuracy:.3f}, {trained.seconds:.1f} s")
    run_id = _audit(warehouse, config)
    answer = run_query(warehouse, chosen.sql, run_id)
    out.print(f"\n{chosen.question} The SQL:\n", style="bold", soft_wrap=True)
    out.print(chosen.sql.strip(), markup=False, soft_wrap=True)
    out.print("\nand its answer:\n", style="bold")
    _print_rows(answer, Format.table)


@app.command()
def init(
    model: Annotated[str, typer.Option(help="Model folder or hub id.")],
    corpus: Annotated[str, typer.Option(help="A file, a glob or a folder of documents, or s3://….")],
    output: Annotated[
        Path | None, typer.Option("--out", help="The YAML; by default called as the corpus.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="The text's column; by default found by name and length.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="The label's column; by default found by name and values.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    warehouse: _WAREHOUSE = "warehouse",
) -> None:
    """Write an audit's YAML for a model and a corpus, with every option as a comment, ready to run."""
    _quiet()
    with _progress("loading …") as progress:
        from calig.suggest import file_name, suggest

        name = file_name(corpus)
        place = output or Path(f"{name}.yaml")
        if place.exists() and not force:
            raise InputError(f"--out: {place} is there: choose another, or write over it with --force")
        progress("looking at the model and the corpus …")
        found = suggest(model, corpus, name=name, warehouse=warehouse, text=text, label=label)
    from calig.files import write_atomic
    from calig.terminal import printable

    try:
        write_atomic(place, found.yaml.encode())
    except OSError as error:
        raise InputError(f"--out: {place} cannot be written: {error.strerror}") from error
    for line in found.found:
        out.print(printable(line), markup=False, soft_wrap=True)
    out.print(f"wrote:  {place}", markup=False, soft_wrap=True)
    run = command("audit", str(place))
    out.print(f"try it: {run} --set corpus.limit=100", markup=False, soft_wrap=True)
    out.print(f"run it: {run}", markup=False, soft_wrap=True)


@app.command()
def audit(
    config: Annotated[Path, typer.Argument(help="The audit's YAML.")],
    overrides: _OVERRIDES = None,
    warehouse: _OTHER_WAREHOUSE = None,
    date: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM-DD", help="What {{ today }} is in the corpus's path, for a rerun."),
    ] = None,
) -> None:
    """Explain every document of a corpus at every depth, build the tables, write the report."""
    from calig.config import load_config
    from calig.warehouse.layout import Warehouse

    dated = [] if date is None else [f"date={date}"]
    loaded = load_config(config, [*(overrides or ()), *dated], warehouse)
    _audit(Warehouse.open(loaded.warehouse), loaded)


@app.command()
def plan(
    config: Annotated[Path | None, typer.Argument(help="The audit's YAML.")] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", help=f"Show the plan that this run had, beside what it took: {_REF}."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers, each as the one that runs the pilot; the YAML's.")
    ] = None,
    documents: Annotated[
        int | None, typer.Option(min=1, help="Plan for so many documents like those of the corpus.")
    ] = None,
    output: Annotated[PlanFormat, typer.Option("--format", help="How it is printed.")] = PlanFormat.table,
    overrides: _OVERRIDES = None,
    warehouse: _OTHER_WAREHOUSE = None,
) -> None:
    """Predict what an audit takes, from a pilot of a few documents: hours, memory, bytes; or compare with a run."""
    if (config is None) == (run is None):
        raise InputError("calig plan takes an audit's YAML, or --run, one of them")
    _quiet()
    from calig.planning.show import print_plan, to_json

    if config is None:
        from calig.warehouse.layout import Warehouse
        from calig.warehouse.plans import read_plan
        from calig.warehouse.runs import resolve_run

        opened = Warehouse.open(warehouse or "warehouse", create=False)
        made = read_plan(opened, resolve_run(opened, run or "latest"))
    else:
        found = _plan(config, [*(overrides or ()), *_workers(workers)], warehouse, documents)
        if found is None:
            err.print("all documents of the corpus are held: an audit computes nothing anew", soft_wrap=True)
            return
        made = found
    if output is PlanFormat.json:
        _write_utf8()
        print(to_json(made))
    else:
        print_plan(made, out)


def _workers(workers: int | None) -> list[str]:
    return [] if workers is None else [f"runtime.workers={workers}"]


def _plan(config: Path, overrides: list[str], warehouse: str | None, documents: int | None) -> Plan | None:
    """Make a plan, and say on the terminal what is going on."""
    from calig.config import load_config

    loaded = load_config(config, overrides, warehouse).started(datetime.now(UTC))
    settings = [word for override in overrides for word in ("--set", override)]
    run = command("audit", str(config), *settings, warehouse=warehouse)

    def small(seconds: float) -> None:
        text = (
            f"small: all of it takes about {seconds:.0f} s, so just run it (this plan's work is kept): {run}"
        )
        err.print(text, markup=False, soft_wrap=True)

    with _progress("loading …") as progress:
        from calig.planning.stages import make_plan
        from calig.warehouse.layout import Warehouse

        return make_plan(Warehouse.open(loaded.warehouse), loaded, documents, progress, small)


@contextmanager
def _progress(first: str) -> Iterator[Callable[[str], None]]:
    """Say on the terminal what is going on; elsewhere in lines, of a count that goes on every few seconds."""
    if err.is_terminal:
        with err.status(first) as status:
            yield status.update
        return
    last, since = "", 0.0

    def tell(text: str) -> None:
        nonlocal last, since
        what, now = text.partition(":")[0], time.monotonic()
        if what != last or now - since >= _BETWEEN:
            last, since = what, now
            err.print(text, markup=False, soft_wrap=True)

    tell(first)
    yield tell


@app.command()
def deploy(
    config: Annotated[Path, typer.Argument(help="The audit's YAML; ${VAR} in it is expanded where it runs.")],
    cron: Annotated[str, typer.Option(help="When: minute, hour, day of month, month, day of week.")],
    timezone: Annotated[
        str | None,
        typer.Option(
            help="Time zone of --cron and {{ yesterday }}, such as Europe/Berlin; by default corpus.timezone, or UTC."
        ),
    ] = None,
    pool: Annotated[
        str, typer.Option(help="Work pool; made for process workers if it is missing.")
    ] = "calig",
    folder: Annotated[
        Path | None, typer.Option(help="Folder that runs work in, on the worker's machine; the current one.")
    ] = None,
    notify: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE/NAME", help="Prefect block told of failed runs; may be repeated."),
    ] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Do not run it by the schedule.")] = False,
    overrides: _OVERRIDES = None,
) -> None:
    """Put an audit on a schedule, on the Prefect server of PREFECT_API_URL; again: bring it up to date."""
    from calig.config import load_template

    template = load_template(config, overrides or ())
    _quiet()
    _own_packages()
    from flows.deploy import deploy as put

    deployed = put(
        template, cron, timezone=timezone, pool=pool, folder=folder, paused=paused, notify=notify or ()
    )
    due = f"next run {deployed.next_run:%Y-%m-%d %H:%M %Z}" if deployed.next_run else "paused"
    out.print(f"[bold]{deployed.name}[/]: {cron} {deployed.timezone}, {due}", soft_wrap=True)
    if template.corpus.is_dated and template.corpus.timezone is None and deployed.timezone != "UTC":
        text = (
            f"note:   runs by hand take the day in UTC; set corpus.timezone: {deployed.timezone} in {config}"
        )
        out.print(text, soft_wrap=True, markup=False)
    planned = template.gates.runs_per_year
    if abs(deployed.runs_per_year - planned) > 0.05 * planned:
        text = (
            f"note:   the schedule runs about {deployed.runs_per_year:,.0f} times a year, and gates.runs_per_year is "
            f"{planned:g}: false alarms come {deployed.runs_per_year / planned:.2g} times as often as "
            f"gates.false_alarms_per_year says; set gates.runs_per_year: {deployed.runs_per_year:.0f} in {config}"
        )
        out.print(text, soft_wrap=True, markup=False)
    out.print(f"told of failed runs: {', '.join(notify) if notify else 'nobody'}", soft_wrap=True)
    out.print(f"work:   prefect worker start --pool {pool}", soft_wrap=True)
    out.print(f"now:    prefect deployment run {deployed.name}", soft_wrap=True)


@app.command()
def evaluate(
    config: Annotated[Path, typer.Argument(help="The YAML, the same as an audit's.")],
    overrides: _OVERRIDES = None,
    warehouse: _OTHER_WAREHOUSE = None,
) -> None:
    """Measure CA-LIG and its peers, for faithfulness, plausibility and sanity, on the same documents."""
    from calig.config import load_config

    loaded = load_config(config, overrides or (), warehouse).started(datetime.now(UTC))
    start = time.perf_counter()
    _quiet()
    from calig.evaluating import stages
    from calig.standings import print_standings
    from calig.warehouse.layout import Warehouse

    opened = Warehouse.open(loaded.warehouse)
    stages.precheck(opened, loaded)
    err.print("starting Prefect …")
    _begin_prefect()
    from flows.evaluate import evaluate_from_terminal as run

    _log_to(opened.root / "calig.log")
    result = run(loaded)
    print_standings(opened, result.evaluation_id, time.perf_counter() - start, out)
    out.print(f"report: {result.report.as_uri()}", soft_wrap=True)
    out.print(
        f"ask:    {command('query', '@methods', warehouse=loaded.warehouse)}",
        soft_wrap=True,
        markup=False,
    )


@app.command()
def explain(
    model: Annotated[str, typer.Option(help="Model folder or hub id.")],
    text: Annotated[str | None, typer.Option(help="The text, for a model of texts.")] = None,
    image: Annotated[Path | None, typer.Option(help="The image file, for a model of images.")] = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="PNG file that an image's strip of depths goes to.")
    ] = None,
    target: Annotated[str, typer.Option(help="predicted, runner-up, a class index or name.")] = "predicted",
    baseline: Annotated[
        str, typer.Option(help="Texts: pad, mask, zero, token:<text>; images: zero, mean, blur, mask.")
    ] = "pad",
    tolerance: Annotated[float, typer.Option(help="Bound on the relative error.")] = 1e-2,
    weight: Annotated[float, typer.Option(help="Weight of the attention gradients.", min=0, max=1)] = 0.5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    revision: Annotated[str | None, typer.Option(help="Hub branch, tag or commit.")] = None,
    pair: Annotated[str | None, typer.Option(help="The second text, for a model of pairs.")] = None,
    head: Annotated[
        str, typer.Option(help="auto, single_label, multi_label, binary (one logit) or regression.")
    ] = "auto",
) -> None:
    """Explain one text or pair in the terminal, in colour, depth by depth; or one image, as a strip in a PNG file."""
    if (text is None) == (image is None):
        raise InputError("calig explain takes --text or --image, one of them")
    if not 0 < tolerance < 1:
        raise InputError(f"--tolerance: {tolerance} is not between 0 and 1; the usual value is 0.01")
    _quiet()
    with err.status("loading …"):
        from calig import Explainer

        chosen = int(target) if target.isdecimal() else target
        explainer = Explainer.from_pretrained(
            model,
            revision=revision,
            device=device,
            baseline=baseline,
            tolerance=tolerance,
            weight=weight,
            head=None if head == "auto" else head,
            target=chosen,
        )
    with err.status("explaining …"):
        if image is not None:
            _explain_image(explainer, image, chosen, output)
            return
        assert text is not None
        if explainer.modality != "text":
            raise InputError("--text: this is a model of images; give it --image FILE")
        document = text if pair is None else (text, pair)
        attribution = explainer.explain([document], chosen)[0]
    from calig.terminal import render_explanation

    render_explanation(attribution, document, explainer.classes, out)


def _explain_image(explainer: Explainer, path: Path, target: str | int, output: Path | None) -> None:
    """Write the strip, and say where it is and what it shows."""
    from calig.files import write_atomic
    from calig.records import Attribution, Document, image_key
    from calig.strip import png, summary

    if explainer.modality != "image":
        raise InputError("--image: this is a model of texts; give it --text")
    if output is not None and output.suffix.lower() != ".png":
        raise InputError(f"--out: {output} is no PNG file's name; end it in .png")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"--image: {path} cannot be read: {error.strerror}") from error
    (found,) = explainer.attribute([Document(image_key(data), image=data)], [target])
    if not isinstance(found, Attribution):
        raise DocumentError(found.reason, f"{path}: {found.detail}")
    place = output or Path(f"{path.stem}-explained.png")
    try:
        write_atomic(place, png(found, explainer.classes))
    except OSError as error:
        raise InputError(f"--out: {place} cannot be written: {error.strerror}") from error
    for line in summary(found, explainer.classes):
        out.print(line, markup=False, soft_wrap=True)
    out.print(f"strip of depths: {place}", markup=False, soft_wrap=True)


@app.command()
def query(
    sql: Annotated[
        str | None,
        typer.Argument(
            help="One SELECT, or @name of a bundled question (@ lists them); - is standard input, which is read "
            "without it too where it is a pipe or a file; else what there is."
        ),
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]…", help="Parameters of a bundled question, as column=source."),
    ] = None,
    run: _RUN = "latest",
    output: Annotated[Format, typer.Option("--format", help="How the answer is printed.")] = Format.table,
    ddl: Annotated[bool, typer.Option("--ddl", help="Print the views' SQL for other tools.")] = False,
    warehouse: _WAREHOUSE = "warehouse",
) -> None:
    """Ask the warehouse in SQL. It can read the run's data and nothing else, and write nothing."""
    from calig.warehouse import query as queries
    from calig.warehouse.layout import Warehouse

    opened = Warehouse.open(warehouse, create=False)
    if sql == "-" or (sql is None and not ddl and _is_fed()):
        sql = _read_sql() or (None if sql is None else "")
    if ddl:
        out.print(queries.ddl(opened, run), markup=False, soft_wrap=True)
        return
    if sql is None:
        _print_catalogue(queries.describe(opened, run))
        return
    asks = sql.lstrip().startswith("@")
    if parameters and not asks:
        raise InputError(
            f"SQL: {len(parameters) + 1} arguments: put the SQL in quotation marks; NAME=VALUE goes with @name"
        )
    if not asks:
        _print_rows(queries.query(opened, sql, run), output)
    elif sql.strip() == "@" and not parameters:
        _print_questions()
    else:
        text = " ".join([sql.strip(), *(parameters or ())])
        _answer_question(opened, warehouse, text, run, output)


def _answer_question(warehouse: Warehouse, place: str, text: str, run: str, output: Format) -> None:
    """Answer a bundled question; say what it needs where its parameters do not fit, or there is no answer."""
    from calig.warehouse.query import corpus_columns
    from calig.warehouse.query import query as run_query
    from calig.warehouse.questions import COLUMN, asked

    question, given = asked(text)
    sql = question.sql_with(given)
    if COLUMN in question.defaults:
        column = given.get(COLUMN, question.defaults[COLUMN])
        there, own = corpus_columns(warehouse, run)
        if column.lower() not in map(str.lower, there):
            words = [f"@{question.name}", *(f"{COLUMN}={name}" for name in own[:1])]
            chosen = [] if run == "latest" else ["--run", run]
            example = f"; for example: {command('query', *words, *chosen, warehouse=place)}" if own else ""
            raise InputError(
                f"@{question.name}: the documents have no column {column!r}; of the corpus they have: "
                f"{', '.join(own) or 'none'}{example}"
            )
    answer = run_query(warehouse, sql, run)
    _print_rows(answer, output)
    if not answer.rows and question.needs:
        err.print(
            f"no rows: there is nothing of the kind, or the run lacks what @{question.name} needs: "
            f"{complete(question.needs)}",
            style="yellow",
            soft_wrap=True,
        )


def _is_fed() -> bool:
    """Whether standard input is a pipe or a file, from which SQL may come."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # it is closed, or not of the system
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _read_sql() -> str:
    """Read SQL from standard input; say so where nothing comes for a while."""
    note = threading.Timer(_SILENCE, lambda: err.print("reading SQL from standard input …"))
    note.daemon = True
    note.start()
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"SQL: standard input is not UTF-8 at byte {error.start + 1}: convert it") from error
    finally:
        note.cancel()


@app.command()
def runs(warehouse: _WAREHOUSE = "warehouse") -> None:
    """List the runs, newest first, with tags, accuracy, failed gates and duration; `lost` ones died under way."""
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.overview import overview

    opened = Warehouse.open(warehouse, create=False)

    table = Table(box=None)
    wide = ("model", "corpus", "tags")
    for column in ("run", "status", "tags", "model", "corpus", "documents", "computed", "reused"):
        table.add_column(column, no_wrap=column not in wide, overflow="fold")
    for column in ("accuracy", "failed gates", "time"):
        table.add_column(column, justify="right")
    for line in overview(opened):
        one = line.run
        gates = line.failed_gates
        failed = (
            "" if gates is None else ", ".join(f"{n} {kind}" for kind, n in sorted(gates.items())) or "none"
        )
        table.add_row(
            one.run_id,
            line.status,
            " ".join(line.tags),
            _tail(one.model["id"]),
            _tail(one.corpus["source"]),
            *map(str, (one.corpus["documents"], one.attributed, one.reused)),
            "" if line.accuracy is None else f"{line.accuracy:.3f}",
            failed,
            "" if line.seconds is None else str(timedelta(seconds=round(line.seconds))),
        )
    out.print(table)


@app.command()
def compare(
    reference: Annotated[str, typer.Argument(help=f"The run to compare with: {_REF}.")],
    run: Annotated[str, typer.Argument(help="The run that is compared, named in the same ways.")],
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Chance of calling anything changed where nothing is; else that of the comparison that is there, "
            "or compare.alpha."
        ),
    ] = None,
    warehouse: _WAREHOUSE = "warehouse",
) -> None:
    """Say what changed from one run to another: outcomes, layer profile and words, beyond what chance makes."""
    if alpha is not None and not 0 < alpha < 1:
        raise InputError(f"--alpha: {alpha} is not between 0 and 1; the usual value is 0.05")
    _quiet()
    from calig.changes import print_changes
    from calig.comparing import stages
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.refresh import refresh_tables
    from calig.warehouse.runs import resolve_run

    opened = Warehouse.open(warehouse, create=False)
    if opened.unwritable is None:
        refresh_tables(opened, wait=_LOCK_SECONDS)
    reference_id, run_id = resolve_run(opened, reference), resolve_run(opened, run)
    wanted = stages.asked(opened, reference_id, run_id, alpha)
    if not stages.is_there(opened, wanted):
        err.print("starting Prefect …")
        _own_packages()
        from flows.compare import compare_from_terminal

        _log_to(opened.root / "calig.log")
        compare_from_terminal(opened, wanted)
    print_changes(opened, run_id, reference_id, out)
    from calig.report import changes

    if (problem := opened.unwritable) is not None:
        err.print(f"no page: {opened.root} cannot be written ({problem})", soft_wrap=True, markup=False)
        return
    out.print(f"page:   {changes.build(opened, run_id, reference_id).as_uri()}", soft_wrap=True)


@app.command()
def tag(
    run: Annotated[str | None, typer.Argument(help=f"The run: {_REF}.")] = None,
    name: Annotated[str | None, typer.Argument(help="The tag, such as baseline.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Move the tag if it names another run.")] = False,
    delete: Annotated[str | None, typer.Option(metavar="NAME", help="Take a tag away.")] = None,
    warehouse: _WAREHOUSE = "warehouse",
) -> None:
    """Name a run, which is then never pruned; without a run, list the tags."""
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.refresh import refresh_tables
    from calig.warehouse.runs import set_tag
    from calig.warehouse.tags import delete_tag, list_tags

    opened = Warehouse.open(warehouse, create=False)
    if delete is not None and run is None:
        delete_tag(opened, delete)
    elif delete is None and run is not None and name is not None:
        refresh_tables(opened, wait=_LOCK_SECONDS)
        out.print(
            f"{name}: {set_tag(opened, run, name, force, wait=_LOCK_SECONDS)}", markup=False, soft_wrap=True
        )
    elif delete is None and run is None:
        _print_table(["tag", "run"], [[tag, run_id] for tag, run_id in list_tags(opened).items()])
    else:
        raise InputError(
            "calig tag takes a run and a name, or --delete and a name, or nothing, to list the tags"
        )


@app.command()
def prune(
    keep: Annotated[int, typer.Option(help="Complete runs to keep of each audit.")],
    name: Annotated[str | None, typer.Option(help="Prune the runs of this audit alone.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")
    ] = False,
    warehouse: _WAREHOUSE = "warehouse",
) -> None:
    """Remove old runs, but no tagged one, and the data that then no run and no evaluation needs."""
    from calig.warehouse import prune as pruning
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.refresh import refresh_tables

    opened = Warehouse.open(warehouse, create=False)
    wait = _LOCK_SECONDS
    if not dry_run:
        refresh_tables(opened, wait=wait)
    done = pruning.plan(opened, keep, name) if dry_run else pruning.prune(opened, keep, name, wait)
    for run_id in done.runs:
        out.print(f"  {run_id}", markup=False, soft_wrap=True)
    out.print(
        f"{'would remove' if dry_run else 'removed'} {len(done.runs)} runs, {done.corpora} corpora, "
        f"{done.attributions} folders and {done.shards} shards of attributions: {done.bytes / 1e6:.1f} MB",
        soft_wrap=True,
    )
    for key in done.busy:
        err.print(f"left as it is, an audit writes there: attributions/{key}", style="yellow", soft_wrap=True)
    for place in done.pinned:
        text = f"left as it is, it is being read; prune again later: {place}"
        err.print(text, style="yellow", markup=False, soft_wrap=True)


@app.command()
def report(
    run: Annotated[str, typer.Argument(help=f"The run: {_REF}.")] = "latest",
    warehouse: _WAREHOUSE = "warehouse",
) -> None:
    """Write a run's report again and print where it is."""
    from calig.report.build import build
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.refresh import refresh_tables
    from calig.warehouse.runs import resolve_run

    opened = Warehouse.open(warehouse, create=False)
    run_id = resolve_run(opened, run)
    refresh_tables(opened, wait=_LOCK_SECONDS)
    print(build(opened, run_id))


@app.command()
def history(
    metric: Annotated[
        str | None,
        typer.Argument(
            help="A metric, e.g. accuracy, class_psi, watched.share:LIST/TERM, layer.special_share:3, gate:NAME; "
            "without it, those there are."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The audit's name; by default that of the newest run.")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How the values are printed.")] = Format.table,
    last: Annotated[int | None, typer.Option(help="Only so many runs, the newest ones.", min=1)] = None,
    warehouse: _WAREHOUSE = "warehouse",
) -> None:
    """Show a metric over an audit's runs; without one, list the metrics and write the trend page."""
    from calig import history as histories
    from calig.report import trend
    from calig.warehouse.lacking import say_unlisted
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.metrics import audit_names, metrics, series
    from calig.warehouse.query import open_tables
    from calig.warehouse.slow_drift import stated

    opened = Warehouse.open(warehouse, create=False)
    if output is not Format.table:
        _write_utf8()
    with closing(open_tables(opened)) as connection:
        say_unlisted(connection, opened)
        names = audit_names(connection)
        if not names or (name is not None and name not in names):
            wanted = "" if name is None else f" of audit {name}"
            there = f"there are {', '.join(names)}" if names else "run `calig audit CONFIG.yaml` first"
            raise InputError(f"no complete run{wanted} in {opened.root}; {there}")
        audit_name = name or names[0]
        if metric is not None:
            points = series(connection, metric, audit_name, last)
            if output is Format.table:
                histories.print_series(metric, points, out)
                histories.print_slow_drift(metric, stated(connection, opened, audit_name), out)
            else:
                histories.print_plain(points, output is Format.json)
            return
        found = metrics(connection, audit_name)
        if output is Format.table:
            histories.print_metrics(found, out)
        else:
            histories.print_plain_metrics(found, output is Format.json)
    if (problem := opened.unwritable) is not None:
        err.print(f"no trend page: {opened.root} cannot be written ({problem})", soft_wrap=True, markup=False)
        return
    page = trend.build(opened, audit_name).as_uri()
    (out if output is Format.table else err).print(f"trend page: {page}", soft_wrap=True, markup=False)


@app.command()
def rebuild(warehouse: _WAREHOUSE = "warehouse") -> None:
    """Build calig.duckdb again from the Parquet files, which hold the truth."""
    from calig.warehouse.aggregate import rebuild as rebuild_tables
    from calig.warehouse.layout import Warehouse

    rebuilt = rebuild_tables(Warehouse.open(warehouse, create=False))
    evaluations = f" and {len(rebuilt.evaluations)} evaluations" if rebuilt.evaluations else ""
    out.print(f"rebuilt the tables of {len(rebuilt.runs)} runs{evaluations}")


@app.command()
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended.")] = False,
    warehouse: _WAREHOUSE = "warehouse",
) -> None:
    """Check versions, device, Prefect, disk and warehouse, and say what to do."""
    from calig.doctor import examine

    marks = {True: "[green]ok[/]", False: "[red]!![/]", None: "[yellow]--[/]"}
    findings = list(examine(warehouse, fix))
    for finding in findings:
        out.print(
            marks[finding.healthy], escape(complete(f"{finding.subject}: {finding.text}")), soft_wrap=True
        )
    if any(finding.healthy is False for finding in findings):
        raise typer.Exit(1)


class _TerminatedError(BaseException):
    """The process was told to end, by SIGTERM."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    if _SYSTEM != "posix":
        _fail(
            "this system is not supported: calig runs on Linux, and on macOS as far as tried; use WSL or a container",
            2,
        )
    try:
        from calig.environment import prepare

        prepare()
        with _terminable():
            code = app(args=_with_sql(arguments), standalone_mode=False)
        if code == _INTERRUPTED:  # newer typers turn Ctrl-C into this
            raise KeyboardInterrupt
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except (InputError, DocumentError) as error:
        _fail(complete(str(error)), 2)
    except PermissionError as error:
        what = f"{error.filename} may not be used" if error.filename else str(error)
        _fail(f"{what}: permission denied; ask its owner, or run as the user it belongs to", 2)
    except OSError as error:
        if error.errno == errno.EROFS:
            what = error.filename or "a file"
            _fail(f"{what} cannot be written: its file system is read-only; name another place", 2)
        _fail_unforeseen(error, arguments)
    except GateError as error:
        from calig.terminal import printable

        _fail("\n".join(map(printable, str(error).splitlines())), 1)
    except _UsageError as error:
        problem = " ".join(error.format_message().split())  # empty where the help was printed in its place
        _fail(f"{problem} (calig --help lists what there is)", 2) if problem else sys.exit(2)
    except ServerError as error:
        _fail_without_server(str(error))
    except (typer.Abort, KeyboardInterrupt):
        if (died := _server_death()) is not None:
            _fail_without_server(died)
        _fail(f"stopped{_kept(arguments)}", _INTERRUPTED)
    except _TerminatedError:
        if (died := _server_death()) is not None:
            _fail_without_server(died)
        _fail(f"stopped by SIGTERM{_kept(arguments)}", _TERMINATED)
    except Exception as error:
        _fail_unforeseen(error, arguments)


def _fail_without_server(message: str) -> None:
    """Say why the Prefect server is gone, and end at once: Prefect's threads would go on trying to reach it."""
    try:
        _fail(message, 3)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(3)


def _fail_unforeseen(error: Exception, arguments: Sequence[str] | None) -> None:
    """Say in a line what broke, and what to do."""
    if (died := _server_death()) is not None:
        _fail_without_server(died)
    what_to_do = advice(error, _log_error(), _command(arguments))
    said = next(iter(str(error).splitlines()), "")
    _fail(f"{type(error).__name__}{f': {said}' if said else ''} ({what_to_do})", 3)


def _kept(arguments: Sequence[str] | None) -> str:
    """What to say of a stopped command that goes on, when it is run again, from what it had finished."""
    again = "; what was finished is kept, and the same command goes on from there"
    return again if _command(arguments) in RESUMED else ""


@contextmanager
def _terminable() -> Iterator[None]:
    """Have SIGTERM end the block as Ctrl-C does, so that what runs is marked as failed and a line says so."""

    def terminate(*_: object) -> None:
        raise _TerminatedError

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    )
    if ours:
        signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _server_death() -> str | None:
    """Say why the Prefect server that this command started died, if it did."""
    server = sys.modules.get("flows.server")
    return None if server is None else server.death()


def _with_sql(arguments: Sequence[str] | None) -> list[str]:
    """Mark SQL that begins with a comment of two dashes, which would be taken for an option, by a blank before it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if _command(given) != "query":
        return given
    return [f" {word}" if _is_commented(word) else word for word in given]


def _is_commented(word: str) -> bool:
    if not word.startswith("--") or not any(map(str.isspace, word)):
        return False
    command: Any = typer.main.get_command(app)
    options = {name for option in command.commands["query"].params for name in option.opts}
    return word.partition("=")[0] not in {*options, "--help"}


def _command(arguments: Sequence[str] | None) -> str | None:
    """The name of the command that was called, such as audit."""
    given = sys.argv[1:] if arguments is None else arguments
    return next((word for word in given if not word.startswith("-")), None)


def _audit(warehouse: Warehouse, config: AuditConfig) -> str:
    """Run an audit through Prefect, Prefect's log in the warehouse's calig.log; return the run's id."""
    from calig import stages

    start = time.perf_counter()
    _quiet()
    config = config.started(datetime.now(UTC))
    stages.precheck(warehouse, config)
    err.print("starting Prefect …")
    _begin_prefect()
    from flows.audit import audit_from_terminal as run

    _log_to(warehouse.root / "calig.log")
    try:
        run_id = run(config).run_id
    except GateError as error:
        if error.run_id is not None:
            _print_run(warehouse, config, error.run_id, time.perf_counter() - start)
        raise
    _print_run(warehouse, config, run_id, time.perf_counter() - start)
    return run_id


def _own_packages() -> None:
    """Have calig's `flows` and `tasks` imported, not the user's; before either is first imported."""
    from calig.environment import use_own_packages

    use_own_packages()


def _begin_prefect() -> None:
    """Let Prefect's temporary server start, where one is needed, in the background of what is done next."""
    _own_packages()
    from flows.server import begin

    begin()


def _print_run(warehouse: Warehouse, config: AuditConfig, run_id: str, seconds: float) -> None:
    """Say what came of an audit, and where to look."""
    from calig import stages
    from calig.comparing.stages import verdicts
    from calig.rows import plural
    from calig.terminal import printable
    from calig.warehouse.gates import read_gates
    from calig.warehouse.runs import read_run

    row = stages.summary(warehouse, run_id)
    accuracy = _accuracy_in_words(row, config)
    converged = "none" if row["converged_share"] is None else f"{row['converged_share']:.2%}"
    out.print(
        f"[bold]{run_id}[/]: {row['documents']} documents ({row['attributed']} explained now, {row['reused']} "
        f"reused), {accuracy}, {row['failures']} failures, {converged} of (document, depth) pairs "
        f"within tolerance, {seconds:.0f} s",
        soft_wrap=True,
    )
    for note in read_run(warehouse, run_id).model.get("notes", ()):
        err.print(f"note: {printable(note)}", style="yellow", markup=False, soft_wrap=True)
    if row["left_out"]:
        text = f"left out of the corpus: {printable(row['left_out_files'])}"
        err.print(text, style="yellow", markup=False, soft_wrap=True)
    for note in row["notes"] or ():
        out.print(f"corpus: {printable(note)}", soft_wrap=True, markup=False)
    if row["label_order"]:
        fits, own = (printable(", ".join(row[column])) for column in ("label_order", "classes"))
        out.print(
            "labels: they may number the classes in another order than the model: accuracy would be "
            f"{row['label_order_accuracy']:.3f} with {fits} in place of {own}; see corpus.labels",
            soft_wrap=True,
            markup=False,
        )
    if row["unconverged"]:
        outside = plural(row["unconverged"], "document")
        see = command("query", "@least-converged", "--run", run_id, warehouse=config.warehouse)
        out.print(
            f"left out of words, tokens, regions and layers: {outside} outside the tolerance; see: {see}",
            soft_wrap=True,
            markup=False,
        )
    for line in _absent_terms(warehouse, run_id, config):
        err.print(line, style="yellow", markup=False, soft_wrap=True)
    if row["documents"] and row["failures"] == row["documents"]:
        err.print(_why_all_failed(warehouse, run_id), style="yellow", markup=False, soft_wrap=True)
    for requested, verdict in verdicts(warehouse, run_id):
        out.print(f"against {requested}: {verdict}", soft_wrap=True, markup=False)
    _print_gates(read_gates(warehouse.run(run_id)))
    out.print(f"report: {(warehouse.run(run_id) / 'report' / 'index.html').as_uri()}", soft_wrap=True)
    unit, table = ("region", "region_stats") if row["modality"] == "image" else ("word", "word_stats")
    sql = f"SELECT {unit}, class, documents, effect FROM {table} ORDER BY effect DESC LIMIT 10"
    ask = command("query", sql, "--run", run_id, warehouse=config.warehouse)
    out.print(f"ask:    {ask}", soft_wrap=True, markup=False)


def _absent_terms(warehouse: Warehouse, run_id: str, config: AuditConfig) -> Iterator[str]:
    """Say of each watch list which of its terms are in no explained document: they may be misspelt."""
    from calig.terminal import printable
    from calig.warehouse.query import query as run_query

    if not config.watch:
        return
    sql = "SELECT DISTINCT list, term FROM watched WHERE occurrences > 0"
    found = set(run_query(warehouse, sql, run_id).rows)
    for name, terms in config.watch.items():
        absent = [repr(term) for term in terms if (name, term) not in found]
        if absent:
            which = (
                "no term"
                if len(absent) == len(terms)
                else f"only {len(terms) - len(absent)} of the {len(terms)} terms"
            )
            shown = ", ".join(absent[:_TERMS]) + (", …" if len(absent) > _TERMS else "")
            yield printable(f"watch: {name}: {which} stands in any document; not there: {shown}")


def _why_all_failed(warehouse: Warehouse, run_id: str) -> str:
    """Say for which reasons no document could be explained."""
    from calig.terminal import printable
    from calig.warehouse.query import query as run_query

    sql = "SELECT reason, count(*) AS n, min(detail) FROM failures GROUP BY reason ORDER BY n DESC, reason"
    reasons = [
        f"{reason} ({count}): {detail}" for reason, count, detail in run_query(warehouse, sql, run_id).rows
    ]
    return printable(f"no document could be explained: {'; '.join(reasons[:3])}")


def _accuracy_in_words(row: dict[str, Any], config: AuditConfig) -> str:
    """What is known of how often the model is right; where nothing is, why."""
    if row["accuracy"] is not None:
        return f"accuracy {row['accuracy']:.3f}"
    if row["mean_absolute_error"] is not None:
        return f"mean absolute error {row['mean_absolute_error']:.3g}"
    if config.corpus.label is None:
        return "no labels"
    if row["documents"] and row["failures"] == row["documents"]:
        return "no accuracy, since no document could be explained"
    return "no accuracy, since no explained document has a label of the model"


def _print_gates(outcomes: Sequence[GateOutcome]) -> None:
    """Say how many gates hold, and which were not checked or give a warning; those that fail the audit come last."""
    from calig.terminal import printable

    held = sum(outcome.passed is True for outcome in outcomes)
    if outcomes:
        all_hold = "the gate holds" if held == 1 else f"all {held} gates hold"
        out.print(f"gates:  {all_hold if held == len(outcomes) else f'{held} of {len(outcomes)} hold'}")
    for outcome in outcomes:
        sign = "warning" if outcome.passed is False else None if outcome.passed else "not checked"
        sign = outcome.state if outcome.state == "too few documents" else sign
        if sign is not None and not outcome.fails_audit:
            err.print(
                f"{sign}: {printable(complete(outcome.line))}", style="yellow", markup=False, soft_wrap=True
            )


def _log_to(path: Path) -> None:
    """Send Prefect's and calig's log to a file from here on; the terminal stays for the user."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger("calig").setLevel(logging.INFO)
    internal = logging.getLogger("prefect._internal")  # has a handler of its own, for the terminal
    internal.handlers.clear()
    internal.propagate = True
    logging.raiseExceptions = False  # where the disk is full, each line of the log would be a traceback


def _quiet() -> None:
    """Keep the libraries' progress bars and chatter off the terminal; before they are first imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")


def _fail(message: str, code: int) -> None:
    err.print(
        f"calig: {message}", style="red" if code != _INTERRUPTED else None, markup=False, soft_wrap=True
    )
    error = sys.exception()
    # a connection in one of its frames would have DuckDB report leaks at the very end
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    sys.exit(code)


def _log_error() -> Path:
    """Write the traceback beside the user's work or, where that cannot be, into the system's temporary folder."""
    for folder in (Path.cwd(), Path(tempfile.gettempdir())):
        log = folder / "calig-error.log"
        try:
            log.write_text(traceback.format_exc())
        except OSError:
            continue
        return log
    return Path(os.devnull)


def _tail(path: str) -> str:
    return escape(path if len(path) <= 40 else "…" + path[-39:])


def _print_catalogue(listing: Sequence[tuple[str, str, str, str]]) -> None:
    for table, column, kind, meaning in listing:
        if not column:
            out.print(f"\n[bold]{table}[/] ({kind}): ", end="")
            out.print(meaning, markup=False)
        else:
            out.print(f"  {column} {kind}: {meaning}", markup=False)
    out.print()
    _print_questions()


def _print_questions() -> None:
    from calig.warehouse.questions import questions

    out.print("[bold]bundled questions[/] (calig query @name, parameters as name=value after it)")
    for one in questions():
        out.print(f"  @{one.name}: {complete(one.described())}", markup=False, soft_wrap=True)


def _print_rows(result: QueryResult, output: Format) -> None:
    from calig.rows import csv_lines, json_lines
    from calig.terminal import printable

    if output is Format.csv:
        _write_utf8()
        sys.stdout.writelines(csv_lines(result.columns, result.rows))
    elif output is Format.json:
        _write_utf8()
        sys.stdout.writelines(json_lines(result.columns, result.rows))
    else:
        columns = [_cells(values) for values in zip(*result.rows, strict=True)]
        _print_table([printable(name) for name in result.columns], list(zip(*columns, strict=True)))
    if result.truncated:
        err.print(
            f"only the first {len(result.rows)} rows are shown; add a LIMIT or aggregate", style="yellow"
        )


def _write_utf8() -> None:
    """Write CSV and JSON in UTF-8 in every locale: other programs read them, and nothing is to be lost."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table or, where its columns do not fit side by side, each row as lines of `column  value`."""
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    room = out.options.update(max_width=1_000_000)
    if Measurement.get(out, room, table).minimum <= out.width:
        out.print(table)
        return
    width = max(map(len, columns))
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            out.print(Text.assemble((column.ljust(width), "bold"), "  ", value), soft_wrap=True)
        out.print()


def _cells(values: Sequence[Any]) -> list[str]:
    """Write the values of one column for people."""
    from calig.rows import cell, numbers
    from calig.terminal import printable

    texts = [printable(cell(value)) for value in values]
    places = [place for place, value in enumerate(values) if isinstance(value, float)]
    for place, text in zip(places, numbers([values[place] for place in places]), strict=True):
        texts[place] = text
    return texts
