"""Aggregation: a run's shards into the tables of calig.duckdb."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from calig import stages
from calig.stages import Run
from tasks.retries import RETRIES


@task(name="aggregate-run", task_run_name="aggregate {run.run_id}", cache_policy=NO_CACHE, **RETRIES)
def aggregate_run(run: Run, attributed: int, timings: dict[str, float]) -> None:
    """Close the attribution of the run and build its tables."""
    stages.aggregate_run(run, attributed, timings)
