"""Tables into a page."""

from __future__ import annotations

from pathlib import Path

from calig.stages import Run
from flows.stage import stage
from tasks.report import complete_run, publish_run, write_report


@stage(name="calig-report", flow_run_name="report {run.run_id}", validate_parameters=False)
def report(run: Run) -> Path:
    """Write the run's report, say that the run is complete, and show it in Prefect."""
    retries = run.config.runtime.retries
    page: Path = write_report.with_options(retries=retries)(run)
    complete_run.with_options(retries=retries)(run)
    publish_run.with_options(retries=retries)(run, page)
    return page
