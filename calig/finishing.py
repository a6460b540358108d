"""Runs that stopped after all their documents were attributed, brought to their end: nothing is computed again.

What is left of such a run needs its files alone: tables, comparisons, gates, report. Documents that a comparison wants
explained for another class need the model; where it is gone, or is another one now, they are left out of the
comparison, as in `calig compare`.
"""

from __future__ import annotations

import logging

from calig import gates, stages
from calig.comparing.stages import compare_runs, wanted
from calig.config import AuditConfig, parse_config
from calig.errors import InputError
from calig.listing import exists
from calig.warehouse import lost
from calig.warehouse.gates import store_gates
from calig.warehouse.inventory import close_run
from calig.warehouse.layout import Warehouse
from calig.warehouse.refresh import refresh_tables
from calig.warehouse.runs import RunManifest, end_run, read_run

logger = logging.getLogger(__name__)


def finish_run(warehouse: Warehouse, run_id: str) -> None:
    """Make what a stopped run lacks, and say that it is complete.

    Its gates are stored as they come out, and fail nobody else's audit. A run that cannot be finished, since files of
    it or a run that it is to be compared with are gone, is marked failed. One that another process finishes is left
    alone.
    """
    taken = lost.take_over(warehouse, run_id)
    if taken is None:
        return
    run, hold = taken
    logger.warning("run %s had stopped when it was %s: it is finished now", run_id, run.status)
    try:
        refresh_tables(warehouse, wait=stages.LOCK_SECONDS)
        config = parse_config({**run.config, "warehouse": warehouse.place})
        _finish(warehouse, run, config)
    except InputError as error:
        end_run(warehouse, read_run(warehouse, run_id), "failed")
        logger.warning("run %s cannot be finished, and is marked failed: %s", run_id, error)
    finally:
        hold.release()


def _finish(warehouse: Warehouse, run: RunManifest, config: AuditConfig) -> None:
    from calig.report.build import build

    if run.status == "attributed" or not exists(warehouse.database):
        stages.make_tables(warehouse, run.run_id)
    for one in wanted(warehouse, config, run.run_id):
        compare_runs(warehouse, one)
    outcomes = gates.check_run(warehouse, run.run_id, config)
    store_gates(warehouse, run.run_id, outcomes, wait=stages.LOCK_SECONDS)
    for outcome in outcomes:
        if outcome.fails_audit:
            logger.warning("run %s: %s", run.run_id, outcome.line)
    build(warehouse, run.run_id)
    close_run(warehouse, run.run_id)
    stages.write_trend(warehouse, run.name)
