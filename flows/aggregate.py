"""Shards into tables."""

from __future__ import annotations

from calig import stages
from calig.stages import Run
from flows.stage import stage
from tasks.aggregate import aggregate_run


@stage(name="calig-aggregate", flow_run_name="aggregate {run.run_id}", validate_parameters=False)
def aggregate(run: Run, attributed: int, timings: dict[str, float]) -> None:
    """Close the run and build its tables in calig.duckdb."""
    try:
        aggregate_run.with_options(retries=run.config.runtime.retries)(run, attributed, timings)
    except BaseException:
        stages.mark_failed(run)
        raise
