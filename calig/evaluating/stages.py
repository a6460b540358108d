"""The stages of an evaluation as plain functions, in the order in which data flows through them.

    AuditConfig → describe_model → bring_in (both of `calig.stages`) → start_evaluation → missing_portions →
    evaluate_portion … → close_evaluation → write_report → check_gates

Truth is in the warehouse's files: each function may be run again after any crash and does only what is missing.
Prefect's tasks call these; nothing here knows of Prefect.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calig import stages
from calig.commands import complete
from calig.config import AuditConfig
from calig.corpus import CorpusManifest
from calig.errors import GateError, InputError
from calig.evaluating.rows import Rows, evaluated_rows, joined, pair_rows
from calig.evaluating.survey import (
    contrast_pairs,
    evaluation_key,
    explains_label,
    read_sample,
    sample,
    survey,
    with_rationale,
)
from calig.faults import apart, failure_of
from calig.formats import stamp
from calig.listing import is_file
from calig.records import Failure, document_key
from calig.warehouse.database import records
from calig.warehouse.evaluation_tables import aggregate_evaluation
from calig.warehouse.evaluations import EvaluationManifest, read_evaluation, write_evaluation_shard
from calig.warehouse.gates import SEE
from calig.warehouse.layout import Warehouse
from calig.warehouse.questions import question
from calig.warehouse.refresh import refresh_tables
from calig.warehouse.shards import ShardManifest, held
from calig.workers import ModelCard, method_of, stored_schedule, versions, workers_explainer

if TYPE_CHECKING:
    from calig.attribution.quadrature import Float64
    from calig.attribution.schedule import Schedule
    from calig.evaluation.evaluate import Design, Evaluated
    from calig.evaluation.subject import Case, Subject

log = logging.getLogger(__name__)

SHARD_DOCUMENTS = 8
"""Documents of a shard whose size is not given: what one costs is not known beforehand."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation under way. `schedule` is the learnt step schedule that the warehouse has, None for the default."""

    warehouse: Warehouse
    evaluation_id: str
    key: str
    config: AuditConfig
    model: ModelCard
    corpus: CorpusManifest
    schedule: Schedule | None

    @property
    def folder(self) -> Path:
        """Where its shards lie."""
        return self.warehouse.evaluation(self.evaluation_id)


@dataclass(frozen=True, slots=True)
class Portion:
    """The work of a shard: row numbers of documents, in the order drawn, or the negative numbers of contrast pairs.

    `metrics` are the groups measured on them: the sanity metrics look at the first documents drawn alone.
    """

    doc_ids: tuple[int, ...]
    metrics: tuple[str, ...]


def precheck(warehouse: Warehouse, config: AuditConfig) -> None:
    """Look at what is cheap to look at before anything is started, as for an audit, and at the contrast pairs.

    Raises
    ------
    InputError
        Something cannot be used.
    """
    from calig.models.configuration import modality_of, read_config

    stages.precheck(warehouse, config)
    if config.runtime.engine == "pool":
        raise InputError(
            "runtime.engine: an evaluation does not run on a work pool; add --set runtime.engine=auto "
            "--set runtime.work_pool="
        )
    if modality_of(read_config(config.model.id, config.model.revision)) == "image":
        for field in ("corpus.rationale", "evaluation.pairs"):
            section, _, name = field.partition(".")
            if getattr(getattr(config, section), name) is not None:
                raise InputError(f"{field}: the model reads images, and these are of texts; remove it")
    contrast_pairs(config)


def start_evaluation(
    warehouse: Warehouse, config: AuditConfig, model: ModelCard, corpus: CorpusManifest
) -> Evaluation:
    """Find the evaluation that the configuration means, begun, finished or new, and have its manifest say `running`.

    A finished one stays as it is: it is set running when something of it turns out to be missing.

    Raises
    ------
    InputError
        The corpus has no documents, or another evaluation has this one's id.
    """
    if not corpus.documents:
        raise InputError(f"{corpus.source} has no rows: there is nothing to evaluate")
    refresh_tables(warehouse, wait=stages.LOCK_SECONDS)
    schedule = stored_schedule(warehouse, config, model)
    key = evaluation_key(config, model, corpus, schedule)
    evaluation_id = f"{config.name or 'audit'}-{key[:8]}"
    evaluation = Evaluation(warehouse, evaluation_id, key, config, model, corpus, schedule)
    if is_file(evaluation.folder / "manifest.json"):
        before = read_evaluation(warehouse, evaluation.evaluation_id)
        if before.key != key:
            raise InputError(
                f"evaluation {evaluation.evaluation_id}: another one has this id; set another name in the configuration"
            )
        if before.status != "complete" or missing_portions(evaluation):
            _write(evaluation, replace(before, status="running", finished=None))
        return evaluation
    methods, section = survey(warehouse, config, model, corpus, schedule)
    method = config.method.model_dump(mode="json")
    fitted = method_of(config, model)
    manifest = EvaluationManifest(
        evaluation_id=evaluation.evaluation_id,
        key=key,
        name=config.name or "audit",
        status="running",
        started=_now(),
        finished=None,
        model={k: v for k, v in asdict(model).items() if k != "depth"},
        corpus={"key": corpus.key, "source": corpus.source, "documents": corpus.documents},
        method=method | {"output": fitted.output, "baseline": fitted.baseline},
        evaluation=section,
        methods=methods,
        config=config.model_dump(mode="json"),
        versions=versions(),
        timings={},
        **stamp(),
    )
    _write(evaluation, manifest)
    return evaluation


def missing_portions(evaluation: Evaluation) -> list[Portion]:
    """What the evaluation's shards do not hold yet, in portions of a shard: documents that the sanity metrics look at,
    the other documents, contrast pairs.
    """
    config = evaluation.config
    done = held(evaluation.warehouse.files, evaluation.folder, column="doc_id")
    drawn = sample(evaluation.warehouse, config, evaluation.corpus)
    groups = tuple(group for group in config.metric_groups if group != "context")
    sane = config.evaluation.sanity_documents if "sanity" in groups else 0
    pairs = [-number for number in range(1, len(contrast_pairs(config)) + 1)]
    size = config.runtime.shard_documents or SHARD_DOCUMENTS
    return [
        Portion(tuple(left[first : first + size]), metrics)
        for numbers, metrics in (
            (drawn[:sane], groups),
            (drawn[sane:], tuple(group for group in groups if group != "sanity")),
            (pairs, ("context",)),
        )
        for left in [[number for number in numbers if number not in done]]
        for first in range(0, len(left), size)
    ]


def evaluate_portion(
    evaluation: Evaluation, portion: Portion, progress: Callable[[int], None] | None = None
) -> ShardManifest:
    """Measure all methods on some documents, or contrast pairs, and write them as one shard, its manifest last."""
    from calig.evaluation.subject import Subject

    start = time.perf_counter()
    wanted = evaluation.config.evaluation
    explainer = workers_explainer(evaluation.config, evaluation.model, evaluation.schedule)
    subject = Subject(explainer, wanted.samples, wanted.seed)
    design = _design(evaluation, portion)
    measure = _measure_pairs if "context" in portion.metrics else _measure_documents
    rows, tokens = measure(evaluation, subject, design, portion, progress)
    files, seconds = evaluation.warehouse.files, time.perf_counter() - start
    return write_evaluation_shard(files, evaluation.folder, rows, tokens, seconds)


def close_evaluation(evaluation: Evaluation, timings: dict[str, float]) -> None:
    """Build the evaluation's tables, and say that it is complete, unless it was before."""
    before = read_evaluation(evaluation.warehouse, evaluation.evaluation_id)
    if before.status != "complete":
        rounded = {stage: round(seconds, 3) for stage, seconds in timings.items()}
        config = evaluation.config.model_dump(mode="json")
        before = replace(before, config=config, timings=rounded, versions=versions())
        _write(evaluation, before)
    aggregate_evaluation(evaluation.warehouse, evaluation.evaluation_id, wait=stages.LOCK_SECONDS)
    if before.status != "complete":
        _write(evaluation, replace(before, status="complete", finished=_now()))


def mark_failed(evaluation: Evaluation) -> None:
    """Say in the evaluation's manifest that it did not come to its end."""
    before = read_evaluation(evaluation.warehouse, evaluation.evaluation_id)
    _write(evaluation, replace(before, status="failed", finished=_now()))


def write_report(evaluation: Evaluation) -> Path:
    """Write the evaluation's report."""
    from calig.report.evaluation import build

    return build(evaluation.warehouse, evaluation.evaluation_id)


def summary(warehouse: Warehouse, evaluation_id: str) -> dict[str, Any]:
    """The evaluation's row of the table `evaluations`."""
    [row] = fetch(warehouse, "SELECT * FROM evaluations WHERE evaluation_id = ?", [evaluation_id])
    return row


def ranking(warehouse: Warehouse, evaluation_id: str) -> list[dict[str, Any]]:
    """The rows of the bundled question `@methods` that are this evaluation's."""
    sql = f"SELECT * EXCLUDE (evaluation_id) FROM ({question('methods').sql}) WHERE evaluation_id = ?"
    return fetch(warehouse, sql, [evaluation_id])


def fetch(warehouse: Warehouse, sql: str, values: list[Any]) -> list[dict[str, Any]]:
    """Answer a SELECT of our own over the tables of evaluations, a row as column → value."""
    from calig.warehouse.query import open_tables

    with closing(open_tables(warehouse)) as connection:
        return records(connection.execute(sql, values))


def check_gates(evaluation: Evaluation) -> None:
    """Check the audit's largest share of failures against the evaluation's; one whose severity is warn is logged.

    Raises
    ------
    GateError
        It does not hold; says so with the number and its limit.
    """
    row = summary(evaluation.warehouse, evaluation.evaluation_id)
    gate = evaluation.config.gates.max_failure_share
    total = row["documents"] + row["pairs"]
    if gate is None or row["failures"] <= gate.limit * total:
        return
    line = (
        f"gates.max_failure_share: {row['failures']} of {total} documents failed "
        f"({row['failures'] / total:.1%}, limit {gate.limit:.1%}){SEE}calig query "
        f'"SELECT failure, count(*) FROM evaluation_documents '
        f"WHERE evaluation_id = '{evaluation.evaluation_id}' GROUP BY 1\""
    )
    line = complete(line, evaluation.warehouse.place)
    if gate.severity == "error":
        raise GateError(line)
    log.warning(line)


def _measure_documents(
    evaluation: Evaluation,
    subject: Subject,
    design: Design,
    portion: Portion,
    progress: Callable[[int], None] | None,
) -> tuple[Rows, int]:
    from calig.evaluation.evaluate import evaluate

    model = evaluation.model
    rows, documents = read_sample(
        evaluation.warehouse, evaluation.config, model, evaluation.corpus, portion.doc_ids
    )
    found = subject.cases(documents)
    failures = {i: item for i, item in enumerate(found) if isinstance(item, Failure)}
    cases = {
        i: with_rationale(item, rows[i]) if explains_label(item, rows[i]) else item
        for i, item in enumerate(found)
        if not isinstance(item, Failure)
    }
    if progress is not None and failures:
        progress(len(failures))

    def measure(some: Sequence[Case]) -> Sequence[Evaluated | Failure]:
        return evaluate(subject, design, some, progress)

    def failed(case: Case, error: BaseException) -> Failure:
        if progress is not None:
            progress(1)
        return failure_of(case.document.key, error, "not-explained", "measuring the methods on it")

    measured = dict(zip(cases, apart(list(cases.values()), measure, failed), strict=True))
    both = failures | measured
    laid_out = [evaluated_rows(row, both[i], model) for i, row in enumerate(rows)]
    return joined(laid_out), sum(len(case.encoded) for case in cases.values())


def _measure_pairs(
    evaluation: Evaluation,
    subject: Subject,
    design: Design,
    portion: Portion,
    progress: Callable[[int], None] | None,
) -> tuple[Rows, int]:
    from calig.evaluation.context import context
    from calig.evaluation.methods import score

    every = contrast_pairs(evaluation.config)
    pairs = [every[-number - 1] for number in portion.doc_ids]

    def run(other: Subject, cases: Sequence[Case]) -> list[dict[str, Float64]]:
        answers = score(other, cases, design.methods)
        return [{name: answer.scores for name, answer in own.items()} for own in answers]

    values = context(subject, pairs, run)
    if progress is not None:
        progress(len(pairs))
    laid_out = [
        pair_rows(number, pair, document_key(pair.text, pair=pair.contrast), own)
        for number, pair, own in zip(portion.doc_ids, pairs, values, strict=True)
    ]
    return joined(laid_out), 0


def _design(evaluation: Evaluation, portion: Portion) -> Design:
    """What is measured on the portion: the methods that apply, and what was settled for all shards."""
    from calig.evaluation.evaluate import Design

    manifest = read_evaluation(evaluation.warehouse, evaluation.evaluation_id)
    section = manifest.evaluation
    return Design(
        methods=tuple(name for name, facts in manifest.methods.items() if facts["refusal"] is None),
        metrics=portion.metrics,
        removals=tuple(section["removals"]),
        shares=tuple(section["shares"]),
        rationale_share=section["rationale_share"],
        spread=section["spread"],
    )


def _write(evaluation: Evaluation, manifest: EvaluationManifest) -> None:
    evaluation.warehouse.files.write_json(evaluation.folder / "manifest.json", manifest.to_json())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
