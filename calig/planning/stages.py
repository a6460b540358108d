"""A plan, made: model, corpus and schedule as an audit brings them in, a pilot, and the figures that follow."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from calig import stages
from calig.attribution.schedule import PILOT_DOCUMENTS
from calig.config import AuditConfig
from calig.corpus import CorpusManifest
from calig.engines.placement import place
from calig.errors import InputError
from calig.planning.figures import figures
from calig.planning.pilot import counter, run_pilot
from calig.planning.sensitivity import unseen
from calig.stages import Run
from calig.warehouse.layout import Warehouse
from calig.warehouse.plans import Plan, store_plan
from calig.workers import ModelCard, key_of, read_schedule

SMALL = 120.0
"""Seconds of attribution below which an audit is small: a plan of it takes about as long as the audit."""


def make_plan(
    warehouse: Warehouse,
    config: AuditConfig,
    documents: int | None,
    progress: Callable[[str], None],
    small: Callable[[float], None] | None = None,
) -> Plan | None:
    """Measure a pilot and predict what the audit will take with its workers; None: there is nothing to do.

    What the pilot explained is kept. The plan is stored for the run that follows, unless it is for another number of
    documents.

    Parameters
    ----------
    warehouse, config
        The audit, and where its results are to be.
    documents
        Plan for so many documents like those of the corpus, none of them explained; None: for those of the corpus that
        are not.
    progress
        Told what is going on.
    small
        Told the seconds that attribution takes, by the step schedule's pilot, where they are fewer than `SMALL`.

    Raises
    ------
    InputError
        The audit cannot be run as configured, another one is at work, there are no documents, or none of those tried
        can be explained.
    """
    stages.precheck(warehouse, config)
    progress("loading the model …")
    model = stages.describe_model(config)
    progress("bringing in the corpus …")
    corpus = stages.bring_in(warehouse, config, model)
    if not corpus.documents:
        raise InputError(f"{corpus.source} has no rows: there is nothing to plan from")
    tell = counter(progress, "learning steps from documents", min(PILOT_DOCUMENTS, corpus.documents))
    schedule = stages.learn_schedule(warehouse, config, model, corpus, tell)
    run = planned_run(warehouse, config, model, corpus, schedule)
    missing = _missing(run)
    if not missing and documents is not None:
        raise InputError(
            f"warehouse {run.warehouse.root}: it holds all documents of the corpus, and none is left for a pilot; "
            "name another with --warehouse"
        )
    if not missing:
        return None
    workers = place(config.runtime).workers
    each = stages.schedule_of(run).seconds_per_document
    if small is not None and documents is None and each and each * len(missing) / workers < SMALL:
        small(each * len(missing) / workers)
    pilot = run_pilot(run, missing, progress)
    left = len(_missing(run))
    if documents is None:
        pilot = replace(pilot, lengths=pilot.left)
    unlabelled = ", or without a label" if run.asked == "label" else ""
    counted = f"{corpus.documents} in the corpus, {corpus.documents - left} of them held, or twice there{unlabelled}"
    size = config.runtime.shard_documents or stages.shard_size(stages.schedule_of(run))
    plan = Plan(
        audit=config.name or "audit",
        attribution_key=run.attribution_key,
        corpus_key=corpus.key,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=_processor(),
        device=pilot.device,
        threads=pilot.threads,
        workers=workers,
        figures=tuple(
            figures(
                pilot,
                left if documents is None else documents,
                counted if documents is None else "as asked, like those of the corpus",
                size,
                workers,
            )
        ),
        cannot_see=unseen(warehouse, config, model, corpus.documents if documents is None else documents),
        asked=run.asked,
    )
    if documents is None:
        store_plan(run.warehouse, plan)
    return plan


def planned_run(
    warehouse: Warehouse, config: AuditConfig, model: ModelCard, corpus: CorpusManifest, schedule: Path
) -> Run:
    """Return the run that an audit would start, without its folder."""
    learnt = read_schedule(schedule)
    assert learnt is not None  # it was just learnt
    key = key_of(config, model, learnt)
    return Run(warehouse, "", config, model, corpus, schedule.stem, key, "")


def _missing(run: Run) -> list[int]:
    found: list[int] = stages.missing_shards(run).doc_ids.tolist()
    return found


def _processor() -> str:
    """Return the processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
