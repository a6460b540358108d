"""Shards into tables."""

from __future__ import annotations

from calig.stages import Run
from flows.stage import stage
from tasks.aggregate import aggregate_run


@stage(name="calig-aggregate", flow_run_name="aggregate {run.run_id}", validate_parameters=False)
def aggregate(run: Run, attributed: int, timings: dict[str, float]) -> None:
    """Close the attribution of the run and build its tables in calig.duckdb."""
    aggregate_run.with_options(retries=run.config.runtime.retries)(run, attributed, timings)
