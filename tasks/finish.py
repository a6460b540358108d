"""Runs that stopped before their end, finished by the next audit."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from calig import finishing
from calig.warehouse.layout import Warehouse
from tasks.retries import RETRIES


@task(name="finish-run", task_run_name="finish {run_id}", cache_policy=NO_CACHE, **RETRIES)
def finish_run(warehouse: Warehouse, run_id: str) -> None:
    """Make the tables, comparisons, gates and report that a stopped run lacks."""
    finishing.finish_run(warehouse, run_id)
