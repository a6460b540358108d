"""The report of a run."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from calig import stages
from calig.stages import Run
from tasks.retries import RETRIES


@task(name="write-report", task_run_name="report {run.run_id}", cache_policy=NO_CACHE, **RETRIES)
def write_report(run: Run) -> Path:
    """Write the run's report and return where it is."""
    return stages.write_report(run)


@task(name="check-gates", cache_policy=NO_CACHE)
def check_gates(run: Run) -> None:
    """Fail when a gate of the audit does not hold."""
    stages.check_gates(run)
