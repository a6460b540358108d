"""The command line: `calig`, also `python -m calig`. Heavy imports happen inside the commands that need them.

Exit codes: 0 fine; 1 a gate of the audit failed; 2 the user's input is wrong; 3 something broke; 130 Ctrl-C.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from calig.errors import DocumentError, GateError, InputError

if TYPE_CHECKING:
    from calig.attribution.explainer import Explainer
    from calig.config import AuditConfig
    from calig.warehouse.query import QueryResult

app = typer.Typer(
    help="Corpus-scale, layer-wise explanation of transformer classifiers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_INTERRUPTED = 130
_UsageError: Any = typer.BadParameter.__bases__[0]
"""What typer raises on a wrong command or option: click's class, or in newer versions a copy of it."""
out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, highlight=False)

_WAREHOUSE = Annotated[Path, typer.Option(help="The warehouse's folder.")]
_RUN = Annotated[str, typer.Option(help="Run id, unique prefix, latest, previous, or all.")]


class Format(StrEnum):
    """How a query's answer is printed."""

    table = "table"
    csv = "csv"
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
    Warehouse.open(folder)
    planted = " with a planted shortcut" if leak else ""
    err.print(
        f"writing {chosen.material}{planted} and training a small {chosen.model} on them …", soft_wrap=True
    )
    trained = chosen.train(folder, seed, leak)
    err.print(f"  accuracy on held-out {chosen.material} {trained.accuracy:.3f}, {trained.seconds:.1f} s")
    config = parse_config(chosen.config(folder))
    run_id = _audit(config)
    answer = run_query(Warehouse.open(config.warehouse), chosen.sql, run_id)
    out.print(f"\n{chosen.question} The SQL:\n", style="bold", soft_wrap=True)
    out.print(chosen.sql.strip(), markup=False, soft_wrap=True)
    out.print("\nand its answer:\n", style="bold")
    _print_rows(answer, Format.table)


@app.command()
def audit(
    config: Annotated[Path, typer.Argument(help="The audit's YAML.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override one value; may be repeated.")
    ] = None,
    warehouse: Annotated[
        str | None, typer.Option(help="The warehouse's folder, instead of the YAML's.")
    ] = None,
) -> None:
    """Explain every document of a corpus at every depth, build the tables, write the report."""
    from calig.config import load_config

    _audit(load_config(config, overrides or (), warehouse))


@app.command()
def deploy(
    config: Annotated[Path, typer.Argument(help="The audit's YAML; ${VAR} in it is expanded where it runs.")],
    cron: Annotated[str, typer.Option(help="When: minute, hour, day of month, month, day of week.")],
    timezone: Annotated[str, typer.Option(help="Time zone of --cron, such as Europe/Berlin.")] = "UTC",
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
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override one value; may be repeated.")
    ] = None,
) -> None:
    """Put an audit on a schedule, on the Prefect server of PREFECT_API_URL; again: bring it up to date."""
    from calig.config import load_template

    template = load_template(config, overrides or ())
    _quiet()
    from flows.deploy import deploy as put

    deployed = put(
        template, cron, timezone=timezone, pool=pool, folder=folder, paused=paused, notify=notify or ()
    )
    due = f"next run {deployed.next_run:%Y-%m-%d %H:%M %Z}" if deployed.next_run else "paused"
    out.print(f"[bold]{deployed.name}[/]: {cron} {timezone}, {due}", soft_wrap=True)
    out.print(f"told of failed runs: {', '.join(notify) if notify else 'nobody'}", soft_wrap=True)
    out.print(f"work:   prefect worker start --pool {pool}", soft_wrap=True)
    out.print(f"now:    prefect deployment run {deployed.name}", soft_wrap=True)


@app.command()
def evaluate(
    config: Annotated[Path, typer.Argument(help="The YAML, the same as an audit's.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override one value; may be repeated.")
    ] = None,
    warehouse: Annotated[
        str | None, typer.Option(help="The warehouse's folder, instead of the YAML's.")
    ] = None,
) -> None:
    """Measure CA-LIG and its peers, for faithfulness, plausibility and sanity, on the same documents."""
    from calig.config import load_config

    loaded = load_config(config, overrides or (), warehouse)
    start = time.perf_counter()
    _quiet()
    from calig.evaluating import stages
    from calig.standings import print_standings
    from calig.warehouse.layout import Warehouse

    stages.precheck(loaded)
    opened = Warehouse.open(loaded.warehouse)
    err.print("starting Prefect …")
    from flows.evaluate import evaluate_from_terminal as run

    _log_to(opened.root / "calig.log")
    result = run(loaded)
    print_standings(opened, result.evaluation_id, time.perf_counter() - start, out)
    out.print(f"report: {result.report.as_uri()}", soft_wrap=True)
    out.print(
        f"ask:    calig query @methods --warehouse {loaded.warehouse}",
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

        explainer = Explainer.from_pretrained(
            model,
            revision=revision,
            device=device,
            baseline=baseline,
            tolerance=tolerance,
            weight=weight,
            head=None if head == "auto" else head,
        )
    with err.status("explaining …"):
        chosen = int(target) if target.isdecimal() else target
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
        typer.Argument(help="One SELECT, or @name of a bundled question; without it, what there is."),
    ] = None,
    run: _RUN = "latest",
    output: Annotated[Format, typer.Option("--format", help="How the answer is printed.")] = Format.table,
    ddl: Annotated[bool, typer.Option("--ddl", help="Print the views' SQL for other tools.")] = False,
    warehouse: _WAREHOUSE = Path("warehouse"),
) -> None:
    """Ask the warehouse in SQL. It can read the run's data and nothing else, and write nothing."""
    from calig.warehouse import query as queries
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.questions import question

    opened = Warehouse.open(warehouse, create=False)
    with _reader_may_leave():
        if ddl:
            out.print(queries.ddl(opened, run), markup=False, soft_wrap=True)
        elif sql is None:
            _print_catalogue(queries.describe(opened, run))
        else:
            if sql.startswith("@"):
                sql = question(sql.removeprefix("@")).sql
            _print_rows(queries.query(opened, sql, run), output)


@app.command()
def runs(warehouse: _WAREHOUSE = Path("warehouse")) -> None:
    """List the warehouse's runs, newest first; `lost` ones say that they are under way, and their process died."""
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.lost import is_lost
    from calig.warehouse.runs import list_runs

    opened = Warehouse.open(warehouse, create=False)

    table = Table(box=None)
    for column in ("run", "status", "model", "corpus", "documents", "computed", "reused"):
        table.add_column(column, no_wrap=column not in ("model", "corpus"), overflow="fold")
    for one in reversed(list_runs(opened)):
        status = "lost" if is_lost(opened, one) else one.status
        numbers = (one.corpus["documents"], one.attributed, one.reused)
        table.add_row(
            one.run_id, status, _tail(one.model["id"]), _tail(one.corpus["source"]), *map(str, numbers)
        )
    out.print(table)


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="Run id, unique prefix, latest or previous.")] = "latest",
    warehouse: _WAREHOUSE = Path("warehouse"),
) -> None:
    """Write a run's report again and print where it is."""
    from calig.report.build import build
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.runs import resolve_run

    opened = Warehouse.open(warehouse, create=False)
    print(build(opened.root, resolve_run(opened, run)))


@app.command()
def rebuild(warehouse: _WAREHOUSE = Path("warehouse")) -> None:
    """Build calig.duckdb again from the Parquet files, which hold the truth."""
    from calig.warehouse.aggregate import rebuild as rebuild_tables
    from calig.warehouse.layout import Warehouse

    rebuilt = rebuild_tables(Warehouse.open(warehouse, create=False))
    evaluations = f" and {len(rebuilt.evaluations)} evaluations" if rebuilt.evaluations else ""
    out.print(f"rebuilt the tables of {len(rebuilt.runs)} runs{evaluations}")


@app.command()
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended.")] = False,
    warehouse: _WAREHOUSE = Path("warehouse"),
) -> None:
    """Check versions, device, Prefect, disk and warehouse, and say what to do."""
    from calig.doctor import examine

    marks = {True: "[green]ok[/]", False: "[red]!![/]", None: "[yellow]--[/]"}
    findings = list(examine(warehouse, fix))
    for finding in findings:
        out.print(marks[finding.healthy], escape(f"{finding.subject}: {finding.text}"), soft_wrap=True)
    if any(finding.healthy is False for finding in findings):
        raise typer.Exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    try:
        code = app(args=arguments, standalone_mode=False)
        if code == _INTERRUPTED:  # newer typers turn Ctrl-C into this
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except (InputError, DocumentError) as error:
        _fail(str(error), 2)
    except GateError as error:
        _fail(str(error), 1)
    except _UsageError as error:
        problem = " ".join(error.format_message().split())  # empty where the help was printed in its place
        _fail(f"{problem} (calig --help lists what there is)", 2) if problem else sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        _fail("stopped; what was finished is kept, and the same command goes on from there", _INTERRUPTED)
    except Exception as error:
        log = _log_error()
        advice = f"details in {log}; the same command run again goes on from what is finished"
        _fail(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} ({advice})", 3)


def _audit(config: AuditConfig) -> str:
    """Run an audit through Prefect, Prefect's log in the warehouse's calig.log; return the run's id."""
    from calig import stages
    from calig.warehouse.layout import Warehouse

    start = time.perf_counter()
    _quiet()
    stages.precheck(config)
    warehouse = Warehouse.open(config.warehouse)
    err.print("starting Prefect …")
    from flows.audit import audit_from_terminal as run

    _log_to(warehouse.root / "calig.log")
    result = run(config)
    row = stages.summary(warehouse, result.run_id)
    accuracy = "no labels" if row["accuracy"] is None else f"accuracy {row['accuracy']:.3f}"
    if row["mean_absolute_error"] is not None:
        accuracy = f"mean absolute error {row['mean_absolute_error']:.3g}"
    converged = "none" if row["converged_share"] is None else f"{row['converged_share']:.2%}"
    out.print(
        f"[bold]{result.run_id}[/]: {row['documents']} documents ({row['attributed']} explained now, {row['reused']} "
        f"reused), {accuracy}, {row['failures']} failures, {converged} of (document, depth) pairs "
        f"within tolerance, {time.perf_counter() - start:.0f} s",
        soft_wrap=True,
    )
    out.print(f"report: {result.report.as_uri()}", soft_wrap=True)
    unit, table = ("region", "region_stats") if row["modality"] == "image" else ("word", "word_stats")
    out.print(
        f'ask:    calig query "SELECT {unit}, class, documents, effect FROM {table} '
        f'ORDER BY effect DESC LIMIT 10" --warehouse {config.warehouse}',
        soft_wrap=True,
        markup=False,
    )
    return result.run_id


def _log_to(path: Path) -> None:
    """Send Prefect's and calig's log to a file from here on; the terminal stays for the user."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger("calig").setLevel(logging.INFO)


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Take it as the end, not as a mistake, when what reads the output stops reading, as `head` does."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _quiet() -> None:
    """Keep the libraries' progress bars and chatter off the terminal; before they are first imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")


def _fail(message: str, code: int) -> None:
    err.print(
        f"calig: {message}", style="red" if code != _INTERRUPTED else None, markup=False, soft_wrap=True
    )
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
    from calig.warehouse.questions import questions

    for table, column, kind, meaning in listing:
        if not column:
            out.print(f"\n[bold]{table}[/] ({kind}): ", end="")
            out.print(meaning, markup=False)
        else:
            out.print(f"  {column} {kind}: {meaning}", markup=False)
    out.print("\n[bold]bundled questions[/] (calig query @name)")
    for one in questions():
        out.print(f"  @{one.name}: {one.title}", markup=False)


def _print_rows(result: QueryResult, output: Format) -> None:
    from calig.terminal import printable

    if output is Format.csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(result.columns)
        writer.writerows(result.rows)
    elif output is Format.json:
        rows = (dict(zip(result.columns, row, strict=True)) for row in result.rows)
        print(json.dumps(list(rows), default=str, ensure_ascii=False, indent=1))
    else:
        _print_table(
            [printable(name) for name in result.columns],
            [[_cell(value) for value in row] for row in result.rows],
        )
    if result.truncated:
        err.print(
            f"only the first {len(result.rows)} rows are shown; add a LIMIT or aggregate", style="yellow"
        )


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


def _cell(value: Any) -> str:
    from calig.terminal import printable

    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))
