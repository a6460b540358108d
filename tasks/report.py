"""The report of a run."""

from __future__ import annotations

import re
from pathlib import Path

from prefect import task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from calig import stages
from calig.stages import Run
from tasks.retries import RETRIES


@task(name="write-report", task_run_name="report {run.run_id}", cache_policy=NO_CACHE, **RETRIES)
def write_report(run: Run) -> Path:
    """Write the run's report and return where it is."""
    return stages.write_report(run)


@task(name="complete-run", task_run_name="complete {run.run_id}", cache_policy=NO_CACHE, **RETRIES)
def complete_run(run: Run) -> None:
    """Say that the run is complete; written last, with the hashes of its files."""
    stages.complete_run(run)


@task(name="publish-run", cache_policy=NO_CACHE, **RETRIES)
def publish_run(run: Run, page: Path) -> None:
    """Show the run's numbers and a link to its report as Prefect artifacts, with a history per audit."""
    row = stages.summary(run.warehouse, run.run_id)
    name = artifact_name(run.config.name)
    shown = ("documents", "attributed", "reused", "failures", "accuracy", "converged_share")
    create_table_artifact(
        [{"measure": key, "value": row[key]} for key in shown], key=f"calig-{name}", description=run.run_id
    )
    create_link_artifact(page.as_uri(), link_text=run.run_id, key=f"calig-{name}-report")


def artifact_name(name: str | None) -> str:
    """Turn a configuration's name into a part of an artifact's key: small letters, digits and dashes."""
    return re.sub("[^a-z0-9]+", "-", (name or "audit").lower()).strip("-") or "audit"
