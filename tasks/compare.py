"""Comparison: two finished runs into what changed. Files decide what is done, not Prefect's cache."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from calig.comparing import stages
from calig.comparing.stages import Wanted
from calig.warehouse.layout import Warehouse
from tasks.retries import RETRIES


@task(
    name="compare-runs",
    task_run_name="compare with {one.reference.run_id}",
    cache_policy=NO_CACHE,
    **RETRIES,
)
def compare_runs(warehouse: Warehouse, one: Wanted) -> dict[str, Any]:
    """Compare a run with one reference, and load what changed into the tables; return its row of `comparisons`."""
    return stages.compare_runs(warehouse, one)
