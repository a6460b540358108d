"""The whole audit: ingest → attribute → aggregate → report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from prefect import flow, runtime, tags

from calig.config import AuditConfig, expand_config
from calig.workers import ModelChangedError
from flows.aggregate import aggregate
from flows.attribute import attribute
from flows.ingest import ingest
from flows.report import report
from flows.server import reach


@dataclass(frozen=True, slots=True)
class AuditResult:
    """The run that an audit made, and its report."""

    run_id: str
    report: Path


@flow(name="calig-audit", flow_run_name="audit {config.name}")
def audit(config: AuditConfig) -> AuditResult:
    """Explain every document of a corpus at every depth of a model, and report.

    Safe to run again at any time: what the warehouse holds is not computed again. `${VAR}` in the configuration
    is expanded here, where the work is done, and what it stands for is not sent to Prefect's server.

    Raises
    ------
    InputError
        The configuration, model or corpus is wrong; nothing is retried.
    GateError
        The audit ran, and one of its gates does not hold.
    """
    with tags(*runtime.flow_run.tags):  # the flows within it are known by them too
        return _in_order(expand_config(config))


def _in_order(config: AuditConfig) -> AuditResult:
    start = time.perf_counter()
    model, corpus = ingest(config)
    ingested = time.perf_counter() - start
    try:
        run, attributed, timings = attribute(config, model, corpus)
    except ModelChangedError:  # since it was fingerprinted: once more, from what is there now
        model, corpus = ingest(config, refresh=True)
        run, attributed, timings = attribute(config, model, corpus)
    aggregate(run, attributed, {"ingest": ingested, **timings})
    return AuditResult(run.run_id, report(run))


def audit_from_terminal(config: AuditConfig) -> AuditResult:
    """Run `audit` with a Prefect server at hand that outlives a Ctrl-C long enough to be told of it."""
    reach()
    return audit(config)
