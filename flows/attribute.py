"""Attribution of what the warehouse does not hold yet, one task per shard."""

from __future__ import annotations

import time
from pathlib import Path

from calig import stages
from calig.config import AuditConfig
from calig.corpus import CorpusManifest
from calig.stages import Run
from calig.warehouse.layout import Warehouse
from calig.workers import ModelCard
from flows.pool import run_ranges
from flows.shards import attribute_shards
from flows.stage import stage
from tasks import attribute as tasks
from tasks.progress import tracking


@stage(name="calig-attribute", flow_run_name="attribute {config.name}", validate_parameters=False)
def attribute(
    warehouse: Warehouse, config: AuditConfig, model: ModelCard, corpus: CorpusManifest
) -> tuple[Run, int, dict[str, float]]:
    """Learn the schedule, open the run, explain the missing documents.

    Returns the run, the number of documents computed, and the seconds each part took.
    """
    retries = config.runtime.retries
    start = time.perf_counter()
    learn_schedule = tasks.learn_schedule.with_options(retries=retries)
    schedule: Path = learn_schedule(warehouse, config, model, corpus)
    pilot = time.perf_counter() - start
    start_run = tasks.start_run.with_options(retries=retries)
    run: Run = start_run(warehouse, config, model, corpus, schedule)
    start = time.perf_counter()
    try:
        with stages.alone_under_the_key(run):
            attributed = _attribute(run)
    except BaseException:
        stages.stop_run(run)
        raise
    return run, attributed, {"pilot": pilot, "attribute": time.perf_counter() - start}


def _attribute(run: Run) -> int:
    """Run the missing shards; return how many documents they hold."""
    shards = stages.missing_shards(run)
    total = len(shards.doc_ids)
    if not shards:
        return 0
    if run.config.runtime.engine == "pool":
        with tracking(run.run_id, total) as tracker:
            run_ranges(run, shards, tracker.add)
        return total
    with tracking(run.run_id, total):
        attribute_shards(run, enumerate(shards, start=1), len(shards))
    return total
