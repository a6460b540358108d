"""The whole audit: ingest → attribute → aggregate → compare → gates → report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from prefect import State, flow, runtime, tags
from prefect.states import Failed

from calig import stages
from calig.comparing.stages import wanted
from calig.config import AuditConfig, expand_config
from calig.errors import GateError
from calig.warehouse.layout import Warehouse
from calig.warehouse.lost import stopped_runs
from calig.workers import ModelChangedError
from flows.aggregate import aggregate
from flows.attribute import attribute
from flows.compare import compare
from flows.ingest import ingest
from flows.report import report
from flows.server import reach
from flows.zone import with_schedule_zone
from tasks.finish import finish_run
from tasks.gates import check_gates, publish_gates


@dataclass(frozen=True, slots=True)
class AuditResult:
    """The run that an audit made, and its report."""

    run_id: str
    report: Path


@flow(name="calig-audit", flow_run_name="audit {config.name}")
def audit(config: AuditConfig) -> AuditResult | State[AuditResult]:
    """Explain every document of a corpus at every depth of a model, and report.

    Safe to run again at any time: what the warehouse holds is not computed again. Where a gate does not hold, the flow
    run is failed, with what was found as its message, after all else is done. `${VAR}` in the configuration is expanded
    here, where the work is done, and what it stands for is not sent to Prefect's server.

    Raises
    ------
    InputError
        The configuration, model or corpus is wrong; nothing is retried.
    GateError
        The audit ran, and one of its gates does not hold.
    """
    config = with_schedule_zone(expand_config(config), runtime.deployment.id)
    config = config.started(runtime.flow_run.scheduled_start_time)
    warehouse = Warehouse.open(config.warehouse)
    with warehouse.at_work(), tags(*runtime.flow_run.tags):  # of the flows within as well
        _finish_stopped(warehouse, config)
        return _in_order(warehouse, config)


def _finish_stopped(warehouse: Warehouse, config: AuditConfig) -> None:
    """Finish earlier runs whose process died after attribution; one that cannot be now is left to the next audit."""
    for run in stopped_runs(warehouse):
        finish_run.with_options(retries=config.runtime.retries)(warehouse, run.run_id, return_state=True)


def _in_order(warehouse: Warehouse, config: AuditConfig) -> AuditResult | State[AuditResult]:
    start = time.perf_counter()
    model, corpus = ingest(warehouse, config)
    ingested = time.perf_counter() - start
    try:
        run, attributed, timings = attribute(warehouse, config, model, corpus)
    except ModelChangedError:  # since it was fingerprinted: once more, from what is there now
        model, corpus = ingest(warehouse, config, refresh=True)
        run, attributed, timings = attribute(warehouse, config, model, corpus)
    retries = config.runtime.retries
    try:
        aggregate(run, attributed, {"ingest": ingested, **timings})
        if comparisons := wanted(warehouse, config, run.run_id):
            compare(warehouse, run.run_id, comparisons, retries)
        outcomes = check_gates.with_options(retries=retries)(run)
        page = report(run)
    except BaseException:
        stages.stop_run(run)
        raise
    publish_gates.with_options(retries=retries)(run, outcomes, page)
    try:
        stages.enforce_gates(run, outcomes)
    except GateError as error:  # a state of its own: the message alone, and no traceback in the log
        return Failed(message=str(error), data=error)
    return AuditResult(run.run_id, page)


def audit_from_terminal(config: AuditConfig) -> AuditResult:
    """Run `audit` with a Prefect server at hand that outlives a Ctrl-C long enough to be told of it."""
    reach()
    result = audit(config)
    assert isinstance(result, AuditResult)  # a failed state is raised
    return result
