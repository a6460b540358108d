"""The gates of a run."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from calig import stages
from calig.commands import complete
from calig.stages import Run
from calig.warehouse.gates import GateOutcome
from tasks.report import artifact_name
from tasks.retries import RETRIES


@task(name="check-gates", task_run_name="gates {run.run_id}", cache_policy=NO_CACHE, **RETRIES)
def check_gates(run: Run) -> list[GateOutcome]:
    """Check the audit's gates and store what became of them; one that does not hold fails nothing yet."""
    return stages.check_gates(run)


@task(name="publish-gates", cache_policy=NO_CACHE, **RETRIES)
def publish_gates(run: Run, outcomes: list[GateOutcome], page: Path) -> None:
    """Show all gates, and a link to the report, as a Prefect artifact with a history per audit."""
    shown = ("gate", "severity", "passed", "state", "value", "limit", "reference_id")
    create_table_artifact(
        [
            {name: getattr(outcome, name) for name in shown}
            | {"detail": complete(outcome.detail, run.warehouse.place)}
            for outcome in outcomes
        ],
        key=f"calig-{artifact_name(run.config.name)}-gates",
        description=f"[{run.run_id}]({page.as_uri()})",
    )
