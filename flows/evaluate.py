"""The whole evaluation: ingest → measure, one task per shard → tables → report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from calig.config import AuditConfig
from calig.corpus import CorpusManifest
from calig.evaluating import stages
from calig.evaluating.stages import Evaluation
from calig.warehouse.layout import Warehouse
from calig.workers import ModelCard, ModelChangedError
from flows.ingest import ingest
from flows.server import reach
from flows.shards import run_shards
from tasks import evaluate as tasks
from tasks.progress import tracking


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The evaluation that was made, or was there, and its report."""

    evaluation_id: str
    report: Path


@flow(name="calig-evaluate", flow_run_name="evaluate {config.name}")
def evaluate(config: AuditConfig) -> EvaluationResult:
    """Measure methods of explanation on a sample of a corpus, and report.

    Safe to run again at any time: what the warehouse holds is not computed again.

    Raises
    ------
    InputError
        The configuration, model or corpus is wrong; nothing is retried.
    GateError
        The evaluation ran, and one of the gates does not hold.
    """
    warehouse = Warehouse.open(config.warehouse)
    with warehouse.at_work():
        start = time.perf_counter()
        config = config.started(flow_run.scheduled_start_time)
        model, corpus = ingest(warehouse, config)
        timings = {"ingest": time.perf_counter() - start}
        try:
            evaluation = _measure(warehouse, config, model, corpus, timings)
        except ModelChangedError:  # since it was fingerprinted: once more, from what is there now
            model, corpus = ingest(warehouse, config, refresh=True)
            evaluation = _measure(warehouse, config, model, corpus, timings)
        retries = config.runtime.retries
        page: Path = tasks.write_evaluation_report.with_options(retries=retries)(evaluation)
        tasks.publish_evaluation.with_options(retries=retries)(evaluation, page)
        tasks.check_evaluation_gates(evaluation)
        return EvaluationResult(evaluation.evaluation_id, page)


def evaluate_from_terminal(config: AuditConfig) -> EvaluationResult:
    """Run `evaluate` with a Prefect server at hand that outlives a Ctrl-C long enough to be told of it."""
    reach()
    return evaluate(config)


def _measure(
    warehouse: Warehouse,
    config: AuditConfig,
    model: ModelCard,
    corpus: CorpusManifest,
    timings: dict[str, float],
) -> Evaluation:
    """Open the evaluation, measure what is missing, and build its tables."""
    retries = config.runtime.retries
    start = time.perf_counter()
    start_evaluation = tasks.start_evaluation.with_options(retries=retries)
    evaluation: Evaluation = start_evaluation(warehouse, config, model, corpus)
    with warehouse.writer_lock(evaluation.folder):
        try:
            portions = stages.missing_portions(evaluation)
            shards = [
                {"evaluation": evaluation, "portion": portion, "number": number, "total": len(portions)}
                for number, portion in enumerate(portions, start=1)
            ]
            documents = sum(len(portion.doc_ids) for portion in portions)
            if shards:
                with tracking(evaluation.evaluation_id, documents, "evaluating"):
                    run_shards(tasks.evaluate_shard.with_options(retries=retries), shards, config)
            timings["evaluate"] = time.perf_counter() - start
            tasks.close_evaluation.with_options(retries=retries)(evaluation, timings)
        except BaseException:
            stages.mark_failed(evaluation)
            raise
    return evaluation
