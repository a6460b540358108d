"""Audits by calls of their stages, without Prefect."""

from __future__ import annotations

from calig import stages
from calig.config import AuditConfig
from calig.warehouse.layout import Warehouse


def begin(config: AuditConfig) -> stages.Run:
    """An audit's stages up to the start of its run."""
    warehouse = Warehouse.open(config.warehouse)
    model = stages.describe_model(config)
    corpus = stages.bring_in(warehouse, config, model)
    schedule = stages.learn_schedule(warehouse, config, model, corpus)
    return stages.start_run(warehouse, config, model, corpus, schedule)
