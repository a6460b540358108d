"""The stages of an audit as plain functions, in the order in which data flows through them.

    AuditConfig → describe_model → bring_in → learn_schedule → start_run → missing_shards → attribute_shard …
    → aggregate_run → check_gates → write_report → enforce_gates

Truth is in the warehouse's files: each function may be run again after any crash and does only what is missing.
Prefect's tasks call these; nothing here knows of Prefect.
"""

from __future__ import annotations

import heapq
import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from calig import corpus as corpora
from calig import gates
from calig.config import AuditConfig
from calig.corpus import CorpusManifest
from calig.corpus.left_out import in_words
from calig.corpus.reading import content_columns, document_of, read_rows
from calig.errors import InputError
from calig.files import part_path
from calig.records import Document
from calig.warehouse import lost
from calig.warehouse.database import check_database, records
from calig.warehouse.gates import GateOutcome, store_gates
from calig.warehouse.layout import Warehouse
from calig.warehouse.missing import Shards, missing_documents
from calig.warehouse.plans import close_plan, peak_memory, take_plan
from calig.warehouse.references import check_comparable, resolve_references
from calig.warehouse.runs import RunManifest, list_runs, read_run
from calig.warehouse.shards import ShardManifest, completed, payments, write_shard
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

    check_database(warehouse)
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
    from calig.models.loading import fingerprint

    pretrained = pretrained_of(config, config.model.revision)
    fresh = fingerprint(pretrained)  # before any use: a tokenizer keeps how it last truncated
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
    )


def bring_in(warehouse: Warehouse, config: AuditConfig, model: ModelCard) -> CorpusManifest:
    """Ingest the corpus into the warehouse."""
    if config.method.target == "label" and config.corpus.label is None:
        raise InputError("method.target: label needs the label column; set corpus.label")
    return corpora.ingest(
        config.dated_corpus,
        model.classes,
        warehouse.files,
        label_in_key=config.method.target == "label",
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

    Without documents there is nothing to learn from: the default goes into a file of its own, and a later run learns.
    """
    from calig.attribution.schedule import PILOT_DOCUMENTS, Schedule

    path = schedule_path(warehouse, config, model)
    if read_schedule(path) is not None:
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
        The gates or watch lists make no sense, the segmenter of earlier runs is missing, or calig.duckdb is damaged or
        of another version; no folder is made.
    """
    from calig.attribution.schedule import Schedule

    gates.check_configured(
        warehouse, config, model.modality
    )  # a run made by a form or a schedule has had no precheck
    check_database(warehouse)
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
        take_plan(warehouse, run_id, key, corpus.key)
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
    """Row numbers (doc_id) of the documents not yet attributed under the run's key, grouped into shards.

    A document that the corpus holds twice is attributed once.
    """
    shards = completed(run.warehouse.files, run.folder)
    held = [path for shard in shards for path in shard.paths(run.folder, "documents")]
    missing = missing_documents(run.corpus.parts(run.warehouse.root), held)
    return Shards(missing, run.config.runtime.shard_documents or shard_size(schedule_of(run)))


def attribute_shard(
    run: Run, doc_ids: Sequence[int], progress: Callable[[int], None] | None = None
) -> ShardManifest:
    """Explain some of the corpus's documents and write them as one shard, its manifest last."""
    start = time.perf_counter()
    documents = read_documents(run.warehouse, run.config, run.model, run.corpus, doc_ids)
    items = workers_explainer(run.config, run.model, schedule_of(run)).attribute(documents, progress=progress)
    seconds = time.perf_counter() - start
    return write_shard(run.warehouse.files, run.folder, items, seconds, run.model.modality, run.run_id)


def aggregate_run(run: Run, attributed: int, timings: dict[str, float]) -> None:
    """Close the run: say what was computed and what reused, merge small shards, build the run's tables."""
    from calig.warehouse.aggregate import aggregate
    from calig.warehouse.compact import compact

    keys = read_rows(run.corpus, run.warehouse.files, ["doc_key"])["doc_key"]
    reused = pc.count_distinct(keys).as_py() - attributed
    start, memory = time.perf_counter(), peak_memory()
    shards = completed(run.warehouse.files, run.folder, check=False)
    own = payments(shards).get(run.run_id, (0, 0.0))
    _write_manifest(run, status="complete", attributed=attributed, reused=reused, timings=timings, own=own)
    _release(run)
    with run.warehouse.writer_lock(run.folder, wait=LOCK_SECONDS):
        compact(run.warehouse.files, run.folder)
    aggregate(run.warehouse, run.run_id, wait=LOCK_SECONDS)
    timings = {**timings, "aggregate": time.perf_counter() - start}
    close_plan(run.warehouse, run.run_id, shards, timings, memory)


def mark_failed(run: Run) -> None:
    """Say in the run's manifest that it did not come to its end."""
    _write_manifest(run, status="failed", attributed=0, reused=0, timings={})
    _release(run)


def _release(run: Run) -> None:
    """Say no more that the run is under way in this process."""
    if run.hold is not None:
        run.hold.release()


def write_report(run: Run) -> Path:
    """Write the run's report, and the trend page of its audit; that a trend page fails is logged, and stops nothing."""
    from calig.report.build import build

    page = build(run.warehouse, run.run_id)
    try:
        write_trend(run)
    except Exception:
        log.exception(
            "the trend page of %s could not be written; `calig history` tries again", run.config.name
        )
    return page


def write_trend(run: Run) -> Path | None:
    """Write the page of the audit's history where it has two complete runs or more; return where it is."""
    from calig.report import trend

    name = run.config.name or "audit"
    runs = [one for one in list_runs(run.warehouse) if one.name == name and one.status == "complete"]
    return trend.build(run.warehouse, name) if len(runs) > 1 else None


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
    """`runs/<id>/documents.parquet`: the corpus's rows without their texts and images, under the run's id."""
    path = run.warehouse.run(run.run_id) / "documents.parquet"
    dataset = ds.dataset(run.corpus.parts(run.warehouse.root), format="parquet")
    columns = [name for name in dataset.schema.names if name not in _CONTENT]
    schema = pa.schema([("run_id", pa.string()), *(dataset.schema.field(name) for name in columns)])
    part = part_path(path)
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for batch in dataset.to_batches(columns=columns):
            run_id = pa.array([run.run_id] * batch.num_rows, pa.string())
            writer.write_batch(pa.record_batch([run_id, *batch.columns], schema=schema))
    run.warehouse.files.swap_in(part, path)


def _write_manifest(
    run: Run,
    *,
    status: str,
    attributed: int,
    reused: int,
    timings: dict[str, float],
    own: tuple[int | None, float | None] = (None, None),
) -> None:
    method = run.config.method.model_dump(mode="json")
    fitted = method_of(run.config, run.model)
    method |= {"output": fitted.output, "baseline": fitted.baseline}
    finished = None if status == "running" else datetime.now(UTC).isoformat(timespec="seconds")
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
    )
    run.warehouse.files.write_json(run.warehouse.run(run.run_id) / "manifest.json", manifest.to_json())
