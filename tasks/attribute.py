"""Attribution: the pilot's schedule, and one task per shard. Manifests decide what is done, not Prefect's cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from calig import stages
from calig.attribution.schedule import PILOT_DOCUMENTS
from calig.config import AuditConfig
from calig.corpus import CorpusManifest
from calig.engines import Engine
from calig.stages import Run
from calig.warehouse.layout import Warehouse
from calig.workers import ModelCard
from tasks.progress import counting, tracking
from tasks.retries import RETRIES


@task(name="learn-schedule", cache_policy=NO_CACHE, **RETRIES)
def learn_schedule(
    warehouse: Warehouse, config: AuditConfig, model: ModelCard, corpus: CorpusManifest
) -> Path:
    """Learn how many nodes each depth needs, unless the warehouse knows already."""
    with tracking("pilot", min(PILOT_DOCUMENTS, corpus.documents), "learning steps") as pilot:
        return stages.learn_schedule(warehouse, config, model, corpus, pilot.add)


@task(name="start-run", cache_policy=NO_CACHE, **RETRIES)
def start_run(
    warehouse: Warehouse, config: AuditConfig, model: ModelCard, corpus: CorpusManifest, schedule: Path
) -> Run:
    """Open the run's folder."""
    return stages.start_run(warehouse, config, model, corpus, schedule)


@task(
    name="attribute-shard",
    task_run_name="shard {number} of {total}",
    cache_policy=NO_CACHE,
    **RETRIES,
)
def attribute_shard(run: Run, doc_ids: Sequence[int], number: int, total: int, engine: Engine) -> None:
    """Have one shard's documents explained and written by a worker; `number` of `total` names it.

    The manifest is in the warehouse, and not returned: Prefect would keep note of it as long as the flow runs.
    """
    with counting(run.run_id) as progress:
        engine.run(stages.attribute_shard, run, doc_ids, progress=progress)
