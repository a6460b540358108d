"""The stages of an audit as plain functions, in the order in which data flows through them.

    AuditConfig → describe_model → bring_in → learn_schedule → start_run → missing_shards → attribute_shard …
    → aggregate_run → check_gates → write_report → complete_run → enforce_gates

Truth is in the warehouse's files: each function may be run again after any crash and does only what is missing.
Prefect's tasks call these; nothing here knows of Prefect.
"""

from __future__ import annotations

import heapq
import json
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from calig import corpus as corpora
from calig import gates
from calig.config import AuditConfig
from calig.corpus import CorpusManifest
from calig.corpus.left_out import in_words
from calig.corpus.order import Sorter
from calig.corpus.reading import content_columns, document_of, read_rows
from calig.errors import BusyError, InputError
from calig.formats import stamp
from calig.records import Document
from calig.warehouse import lost
from calig.warehouse.database import SPILL, UnreadableTablesError, records
from calig.warehouse.earlier import take_over
from calig.warehouse.explained import Asked, asked_for
from calig.warehouse.gates import GateOutcome, store_gates
from calig.warehouse.inventory import close_run, name_shards
from calig.warehouse.layout import Warehouse
from calig.warehouse.missing import Shards, missing_documents, wanted_documents
from calig.warehouse.pins import pinned
from calig.warehouse.plans import close_plan, peak_memory, take_plan
from calig.warehouse.references import check_comparable, resolve_references
from calig.warehouse.refresh import refresh_tables
from calig.warehouse.runs import RunManifest, State, list_runs, read_run, write_run
from calig.warehouse.shards import ROW_GROUP, ShardManifest, asked_name, completed, payments, write_shard
from calig.warehouse.views import write_explained
from calig.warehouse.words import check_segmenter
from calig.workers import (
    ModelCard,
    head_of,
    key_of,
    load_explainer,
    method_of,
    pretrained_of,
    read_schedule,
    schedule_path,
    stored_schedule,
    versions,
    workers_explainer,
)

if TYPE_CHECKING:
    from calig.attribution.schedule import Schedule

log = logging.getLogger(__name__)

SHARD_SECONDS = 60.0
"""Work that one shard holds when its size is left to the pilot."""

LOCK_SECONDS = 600.0
"""How long an audit waits for another one to finish writing the tables."""

_CONTENT = ("text", "text_pair", "image", "image_bytes")


@dataclass(frozen=True, slots=True)
class Run:
    """A run under way: where it is, what it explains, and under which keys its results lie.

    `hold` shows that it is under way; None: another process started it.
    """

    warehouse: Warehouse
    run_id: str
    config: AuditConfig
    model: ModelCard
    corpus: CorpusManifest
    schedule_key: str
    attribution_key: str
    started: str
    hold: lost.Hold | None = field(default=None, compare=False, repr=False)

    @property
    def folder(self) -> Path:
        """Where the shards of its attributions lie."""
        return self.warehouse.attributions(self.attribution_key)

    @property
    def asked(self) -> Asked:
        """Which class of its documents is explained."""
        return asked_for(self.config.method.target, self.model.head, self.model.classes)


def precheck(warehouse: Warehouse, config: AuditConfig) -> None:
    """Look at what is cheap to look at before anything is started: warehouse, model configuration, gates, corpus.

    Raises
    ------
    InputError
        One of them cannot be used.
    """
    from calig.attribution.heads import fit
    from calig.models.configuration import modality_of, read_config
    from calig.models.heads import class_names, find_head

    refresh_tables(warehouse, wait=LOCK_SECONDS)
    model = read_config(config.model.id, config.model.revision)
    head = find_head(model, head_of(config))
    modality = modality_of(model)
    fit(method_of(config), head, class_names(model, head), modality)
    gates.check_configured(warehouse, config, modality)
    corpora.check(config.dated_corpus, modality)
    fewest = config.compare.previous_documents
    for reference in resolve_references(warehouse, config.compare_to, config.name or "audit", fewest=fewest):
        check_comparable(read_run(warehouse, reference.run_id), head, modality)


def model_stamp(config: AuditConfig) -> str:
    """What tells one model from another without loading it: its files' contents and, of one of the hub, the commit.

    A file that did not change since it was last read is not read again (`calig.hashes`). Of an adapter, the model that
    it adapts counts as well.

    Raises
    ------
    InputError
        The folder, or a file in it, may not be read.
    """
    from calig.models.contents import model_contents

    model, dtype = config.model, config.runtime.dtype
    contents = model_contents(model.id, model.revision)
    return json.dumps([model.id, model.revision, model.head, dtype, contents])


def describe_model(config: AuditConfig) -> ModelCard:
    """Load the model, check that it can be explained as asked, and take its fingerprint."""
    from calig.attribution.explainer import Explainer
    from calig.models.loading import fingerprint, fingerprints

    pretrained = pretrained_of(config, config.model.revision)
    fresh = fingerprint(pretrained)  # before any use: a tokenizer keeps how it last truncated
    parts = fingerprints(pretrained)
    explainer = Explainer(pretrained, method_of(config))
    revision = pretrained.revision or config.model.revision
    notes = (*pretrained.notes, *explainer.notes)
    for note in notes:
        log.warning("%s", note)
    return ModelCard(
        config.model.id,
        revision,
        fresh,
        pretrained.classes,
        explainer.depth,
        pretrained.head,
        pretrained.modality,
        notes,
        explainer.method.baseline if explainer.notes else None,
        parts,
    )


def bring_in(warehouse: Warehouse, config: AuditConfig, model: ModelCard) -> CorpusManifest:
    """Ingest the corpus into the warehouse."""
    if config.method.target == "label" and config.corpus.label is None:
        raise InputError("method.target: label needs the label column; set corpus.label")
    return corpora.ingest(
        config.dated_corpus,
        model.classes,
        warehouse.files,
        one_class=config.method.target == "label",
        head=model.head,
        modality=model.modality,
        audit=config.name or "audit",
    )


def corpus_stamp(config: AuditConfig, model: ModelCard) -> str | None:
    """What tells one corpus from another without bringing it in: see `calig.corpus.fingerprint`."""
    return corpora.fingerprint(config.dated_corpus, model.modality)


def learn_schedule(
    warehouse: Warehouse,
    config: AuditConfig,
    model: ModelCard,
    corpus: CorpusManifest,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """The step schedule's file: the one there, or learnt now on the documents with the smallest content hash.

    One that an earlier version learnt is taken over, and so is what that explained with it.
    Without documents there is nothing to learn from: the default goes into a file of its own, and a later run learns.
    """
    from calig.attribution.schedule import PILOT_DOCUMENTS, Schedule

    path = schedule_path(warehouse, config, model)
    if (found := stored_schedule(warehouse, config, model)) is not None:
        if read_schedule(path) is None:
            warehouse.files.write_atomic(path, found.to_json().encode())
        if config.method.target != "label":  # else the old keys of documents are others
            take_over(warehouse, key_of(config, model, found, before=True), key_of(config, model, found))
        return path
    if not corpus.documents:
        path = path.with_stem(f"{path.stem}-default")
        default = Schedule.default(method_of(config, model).quadrature, model.depth)
        warehouse.files.write_atomic(path, default.to_json().encode())
        return path
    rows = read_rows(corpus, warehouse.files, ["doc_id", "doc_key"])
    smallest = dict(
        heapq.nsmallest(
            PILOT_DOCUMENTS, zip(*(rows[c].to_pylist() for c in ("doc_key", "doc_id")), strict=True)
        )
    )
    documents = read_documents(warehouse, config, model, corpus, sorted(smallest.values()))
    schedule = load_explainer(config, model).pilot(documents, progress)
    warehouse.files.write_atomic(path, schedule.to_json().encode())
    return path


def start_run(
    warehouse: Warehouse, config: AuditConfig, model: ModelCard, corpus: CorpusManifest, schedule: Path
) -> Run:
    """Give the run an id and a folder with its documents and a manifest that says `running`.

    Runs of this audit that say so too and whose process died are marked as failed.

    Raises
    ------
    InputError
        The gates or watch lists make no sense, the segmenter of earlier runs is missing, or calig.duckdb is of another
        version; no folder is made.
    """
    from calig.attribution.schedule import Schedule

    # a run made by a form or a schedule has had no precheck
    gates.check_configured(warehouse, config, model.modality)
    refresh_tables(warehouse, wait=LOCK_SECONDS)
    if model.modality == "text":
        check_segmenter(warehouse, config.name or "audit")
    key = key_of(config, model, Schedule.from_json(schedule.read_text()))
    with warehouse.writer_lock(warehouse.runs, wait=LOCK_SECONDS):  # no corpus is pruned meanwhile
        now = _after_all_others(warehouse)
        stem = f"{now:%Y%m%d-%H%M%S}-{config.name or 'audit'}"
        for attempt in range(1, 1000):
            run_id = stem if attempt == 1 else f"{stem}-{attempt}"
            try:
                warehouse.run(run_id).mkdir(parents=True)
                break
            except FileExistsError:
                continue
        started = now.isoformat(timespec="seconds")
        run = Run(warehouse, run_id, config, model, corpus, schedule.stem, key, started)
        _write_documents(run)
        take_plan(warehouse, run_id, key, corpus.key, run.asked)
        if run.corpus.files_left_out:
            log.warning("corpus %s: left out: %s", run.corpus.source, in_words(run.corpus.files_left_out))
        lost.close_lost(warehouse, config.name or "audit")
        hold = lost.Hold(warehouse.run(run_id), warehouse.mirror)
        try:
            _write_manifest(run, status="running", attributed=0, reused=0, timings={})
        except BaseException:
            hold.release()
            raise
    return replace(run, hold=hold)


def _after_all_others(warehouse: Warehouse) -> datetime:
    """The time now or, where the clock is behind the newest run, a second after that: starts put runs in order."""
    now = datetime.now(UTC)
    newest = max((other.started_at.replace(tzinfo=UTC) for other in list_runs(warehouse)), default=now)
    if newest <= now:
        return now
    log.warning("the clock is behind the newest run's start, %s: this run counts as started after it", newest)
    return newest + timedelta(seconds=1)


def missing_shards(run: Run) -> Shards:
    """Row numbers (doc_id) of the documents whose class in the run is not yet attributed, in shards.

    Shards are ranges of the corpus's order. A document that the corpus holds twice is attributed once for each class
    that is asked for.
    """
    with pinned(run.folder):
        shards = completed(run.warehouse.files, run.folder)
        held = [path for shard in shards for path in shard.paths(run.folder, "documents")]
        parts = run.corpus.parts(run.warehouse.root)
        missing = missing_documents(parts, held, run.asked, run.model.head)
    return Shards(missing, run.config.runtime.shard_documents or shard_size(schedule_of(run)))


@contextmanager
def alone_under_the_key(run: Run) -> Iterator[None]:
    """Be the only audit that explains under the run's key, so that no document is explained twice.

    Another one is waited for, however long it takes: what it explains is then there for this one.
    """
    with ExitStack() as held:
        try:
            held.enter_context(run.warehouse.writer_lock(run.folder))
        except BusyError as error:
            said = str(error).partition("; ")[0]
            log.warning(
                "%s: it explains documents under the same key; this audit waits until it has finished", said
            )
            held.enter_context(run.warehouse.writer_lock(run.folder, wait=math.inf))
        yield


def attribute_shard(
    run: Run, doc_ids: Sequence[int], progress: Callable[[int], None] | None = None
) -> ShardManifest:
    """Explain some of the corpus's documents and write them as one shard, its manifest last."""
    start = time.perf_counter()
    documents = read_documents(run.warehouse, run.config, run.model, run.corpus, doc_ids)
    items = workers_explainer(run.config, run.model, schedule_of(run)).attribute(documents, progress=progress)
    seconds = time.perf_counter() - start
    files, modality, name = run.warehouse.files, run.model.modality, name_of(run, documents)
    return write_shard(files, run.folder, items, seconds, modality, run.run_id, name)


def name_of(run: Run, documents: Iterable[Document]) -> str:
    """The name of the shard of some documents, read by `read_documents`, which is known before they are explained."""
    return asked_name((one.key, one.label if run.asked == "label" else run.asked) for one in documents)


def aggregate_run(run: Run, attributed: int, timings: dict[str, float]) -> None:
    """Say what was computed and what reused, merge small shards, build the run's tables: it is then `aggregated`."""
    parts = run.corpus.parts(run.warehouse.root)
    reused = wanted_documents(parts, run.asked, run.model.head) - attributed
    write_explained(run.warehouse, run.run_id)
    start, memory = time.perf_counter(), peak_memory()
    shards = completed(run.warehouse.files, run.folder, check=False)
    own = payments(shards).get(run.run_id, (0, 0.0))
    _write_manifest(run, status="attributed", attributed=attributed, reused=reused, timings=timings, own=own)
    make_tables(run.warehouse, run.run_id)
    timings = {**timings, "aggregate": time.perf_counter() - start}
    close_plan(run.warehouse, run.run_id, shards, timings, memory)


def make_tables(warehouse: Warehouse, run_id: str) -> None:
    """Bring a run that is attributed to the state `aggregated`: merge small shards, build tables, name the shards.

    Tables that cannot be read are made again from the files, those of other runs too.
    """
    from calig.warehouse.aggregate import aggregate, rebuild
    from calig.warehouse.compact import compact

    manifest = read_run(warehouse, run_id)
    folder = warehouse.attributions(manifest.attribution_key)
    try:
        with warehouse.writer_lock(folder):
            compact(warehouse.files, folder)
    except BusyError:
        log.info("small shards are left to the audit that is at work under the same key")
    try:
        aggregate(warehouse, run_id, wait=LOCK_SECONDS)
    except UnreadableTablesError as error:
        log.warning("%s: made again from the Parquet files", error.reason)
        rebuild(warehouse, wait=LOCK_SECONDS)
    name_shards(warehouse, manifest)
    write_run(
        warehouse, replace(read_run(warehouse, run_id), status="aggregated")
    )  # aggregation may settle its words


def stop_run(run: Run) -> None:
    """Let go of a run that stops here before its end: failed while it was running, else the next audit finishes it."""
    try:
        if read_run(run.warehouse, run.run_id).status == "running":
            _write_manifest(run, status="failed", attributed=0, reused=0, timings={})
    finally:  # on a full disk, say, nothing can be written
        _release(run)


def _release(run: Run) -> None:
    """Say no more that the run is under way in this process."""
    if run.hold is not None:
        run.hold.release()


def write_report(run: Run) -> Path:
    """Write the run's report."""
    from calig.report.build import build

    return build(run.warehouse, run.run_id)


def complete_run(run: Run) -> None:
    """Say that the run is complete, with the hashes of its files, and write the trend page of its audit."""
    close_run(run.warehouse, run.run_id)
    _release(run)
    write_trend(run.warehouse, run.config.name or "audit")


def write_trend(warehouse: Warehouse, name: str) -> None:
    """Write the page of an audit's history where it has two finished runs or more; a failure is logged, no more."""
    from calig.report import trend

    try:
        if sum(one.name == name and one.is_finished for one in list_runs(warehouse)) > 1:
            trend.build(warehouse, name)
    except Exception:
        log.exception("the trend page of %s could not be written; `calig history` tries again", name)


def summary(warehouse: Warehouse, run_id: str) -> dict[str, Any]:
    """The run's row of the table `runs`."""
    from calig.warehouse.query import open_run

    with closing(open_run(warehouse, run_id)) as connection:
        return records(connection.execute("SELECT * FROM runs WHERE run_id = ?", [run_id]))[0]


def check_gates(run: Run) -> list[GateOutcome]:
    """Check the audit's gates against the run's numbers, and store what became of them; none is enforced yet."""
    outcomes = gates.check_run(run.warehouse, run.run_id, run.config)
    store_gates(run.warehouse, run.run_id, outcomes, wait=LOCK_SECONDS)
    return outcomes


def enforce_gates(run: Run, outcomes: Sequence[GateOutcome]) -> None:
    """Fail where a gate whose severity is error does not hold.

    Raises
    ------
    GateError
        Has a line for each such gate, with the number, its limit and where to look.
    """
    gates.enforce(run.run_id, outcomes)


def schedule_of(run: Run) -> Schedule:
    """The step schedule that the run goes by."""
    from calig.attribution.schedule import Schedule

    return Schedule.from_json((run.warehouse.schedules / f"{run.schedule_key}.json").read_text())


def shard_size(schedule: Schedule | None) -> int:
    """Documents of a shard, by the time that the schedule's pilot took for one."""
    seconds = (schedule and schedule.seconds_per_document) or 1.0
    return int(min(max(SHARD_SECONDS / seconds, 16), 10_000))


def read_documents(
    warehouse: Warehouse,
    config: AuditConfig,
    model: ModelCard,
    corpus: CorpusManifest,
    doc_ids: Sequence[int],
) -> list[Document]:
    """Read some of the corpus's documents, with their labels where those are what is explained."""
    labelled = config.method.target == "label"
    columns = content_columns(model.modality, config.corpus.text_pair is not None)
    columns = [*columns, *(["label"] if labelled else [])]
    rows = read_rows(corpus, warehouse.files, columns, doc_ids).to_pylist()
    return [document_of(row, model.modality, labelled) for row in rows]


def _write_documents(run: Run) -> None:
    """`runs/<id>/documents.parquet`: the corpus's rows by doc_id, without texts and images, under the run's id."""
    warehouse = run.warehouse
    dataset = ds.dataset(run.corpus.parts(warehouse.root), format="parquet")
    columns = [name for name in dataset.schema.names if name not in _CONTENT]
    schema = pa.schema([("run_id", pa.string()), *(dataset.schema.field(name) for name in columns)])
    spill = tempfile.TemporaryDirectory(prefix=SPILL, dir=warehouse.root)
    making = warehouse.files.making(warehouse.run(run.run_id) / "documents.parquet")
    with spill as folder, making as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
        sorter = Sorter(Path(folder), end=run.corpus.documents)
        for batch in dataset.to_batches(columns=columns):
            run_id = pa.array([run.run_id] * batch.num_rows, pa.string())
            rows = pa.Table.from_arrays([run_id, *batch.columns], schema=schema)
            sorter.add(rows, batch["doc_id"].to_numpy().astype(np.uint64))
        for rows in sorter.rows():
            writer.write_table(rows, row_group_size=ROW_GROUP)


def _write_manifest(
    run: Run,
    *,
    status: State,
    attributed: int,
    reused: int,
    timings: dict[str, float],
    own: tuple[int | None, float | None] = (None, None),
) -> None:
    method = run.config.method.model_dump(mode="json")
    fitted = method_of(run.config, run.model)
    method |= {"output": fitted.output, "baseline": fitted.baseline}
    schedule = read_schedule(run.warehouse.schedules / f"{run.schedule_key}.json")
    finished = datetime.now(UTC).isoformat(timespec="seconds") if status == "failed" else None
    manifest = RunManifest(
        run_id=run.run_id,
        name=run.config.name or "audit",
        status=status,
        started=run.started,
        finished=finished,
        model={k: v for k, v in asdict(run.model).items() if k != "depth"},
        corpus={
            "key": run.corpus.key,
            "source": run.corpus.source,
            "documents": run.corpus.documents,
            "rows": run.corpus.rows,
            "left_out": run.corpus.files_left_out,
            "date": None if run.config.date is None else run.config.date.isoformat(),
            "notes": list(run.corpus.notes),
        },
        attribution_key=run.attribution_key,
        method=method,
        depths=run.model.depth + 1,
        attributed=attributed,
        reused=reused,
        config=run.config.model_dump(mode="json"),
        versions=versions(),
        timings={stage: round(seconds, 3) for stage, seconds in timings.items()},
        own_block_passes=own[0],
        own_seconds=own[1],
        schedule=None if schedule is None else schedule.key,
        **stamp(),
    )
    write_run(run.warehouse, manifest)
