"""Evaluation: one task per shard. Manifests decide what is done, not Prefect's cache."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from calig.config import AuditConfig
from calig.corpus import CorpusManifest
from calig.engines import Engine
from calig.evaluating import stages
from calig.evaluating.stages import Evaluation, Portion
from calig.warehouse.layout import Warehouse
from calig.workers import ModelCard
from tasks.progress import counting
from tasks.report import artifact_name
from tasks.retries import RETRIES


@task(name="start-evaluation", cache_policy=NO_CACHE, **RETRIES)
def start_evaluation(
    warehouse: Warehouse, config: AuditConfig, model: ModelCard, corpus: CorpusManifest
) -> Evaluation:
    """Find out what applies to the model, and open the evaluation's folder."""
    return stages.start_evaluation(warehouse, config, model, corpus)


@task(name="evaluate-shard", task_run_name="shard {number} of {total}", cache_policy=NO_CACHE, **RETRIES)
def evaluate_shard(evaluation: Evaluation, portion: Portion, number: int, total: int, engine: Engine) -> None:
    """Have a worker measure all methods on one shard's documents and write them; `number` of `total` names it."""
    with counting(evaluation.evaluation_id) as progress:
        engine.run(stages.evaluate_portion, evaluation, portion, progress=progress)


@task(
    name="close-evaluation",
    task_run_name="aggregate {evaluation.evaluation_id}",
    cache_policy=NO_CACHE,
    **RETRIES,
)
def close_evaluation(evaluation: Evaluation, timings: dict[str, float]) -> None:
    """Close the evaluation and build its tables."""
    stages.close_evaluation(evaluation, timings)


@task(
    name="write-evaluation-report",
    task_run_name="report {evaluation.evaluation_id}",
    cache_policy=NO_CACHE,
    **RETRIES,
)
def write_evaluation_report(evaluation: Evaluation) -> Path:
    """Write the evaluation's report and return where it is."""
    return stages.write_report(evaluation)


@task(name="check-evaluation-gates", cache_policy=NO_CACHE)
def check_evaluation_gates(evaluation: Evaluation) -> None:
    """Fail when a gate does not hold."""
    stages.check_gates(evaluation)


@task(name="publish-evaluation", cache_policy=NO_CACHE, **RETRIES)
def publish_evaluation(evaluation: Evaluation, page: Path) -> None:
    """Show the methods' numbers and a link to the report as Prefect artifacts, with a history per configuration."""
    name = f"calig-{artifact_name(evaluation.config.name)}-evaluation"
    rows = stages.ranking(evaluation.warehouse, evaluation.evaluation_id)
    create_table_artifact(rows, key=name, description=evaluation.evaluation_id)
    create_link_artifact(page.as_uri(), link_text=evaluation.evaluation_id, key=f"{name}-report")
