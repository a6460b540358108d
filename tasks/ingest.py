"""Model and corpus, brought in once and then taken from the cache while their sources have not changed."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Any

from prefect import task
from prefect.context import TaskRunContext

from calig import stages
from calig.config import AuditConfig
from calig.corpus import CorpusManifest
from calig.formats import FORMAT
from calig.warehouse.layout import Warehouse
from calig.workers import CARD_VERSION, ModelCard
from tasks.retries import RETRIES


def _model_key(_context: TaskRunContext, parameters: dict[str, Any]) -> str:
    config: AuditConfig = parameters["config"]
    return _digest("model", CARD_VERSION, parameters["stamp"], config.method.model_dump_json())


def _corpus_key(_context: TaskRunContext, parameters: dict[str, Any]) -> str | None:
    if parameters["stamp"] is None:
        return None
    config: AuditConfig = parameters["config"]
    model: ModelCard = parameters["model"]
    warehouse: Warehouse = parameters["warehouse"]
    labelled = config.method.target == "label"
    # an audit's first run settles the types of its columns, in the audit's name
    stamp = parameters["stamp"]
    return _digest("corpus", warehouse.root, config.name, stamp, model.classes, model.head, labelled)


def _digest(*parts: object) -> str:
    """Make a cache key: what it is for, then a hash of calig's version and format and of all the result depends on."""
    content = repr((version("calig"), FORMAT, *parts))
    return f"calig-{parts[0]}-{hashlib.sha256(content.encode()).hexdigest()}"


@task(
    name="fingerprint-model",
    task_run_name="fingerprint {config.name}",
    cache_key_fn=_model_key,
    persist_result=True,
    **RETRIES,
)
def fingerprint_model(config: AuditConfig, stamp: str) -> tuple[ModelCard, str]:
    """Load the model once, check it, and take its fingerprint.

    `stamp` is what identified the model before it was loaded; what does so afterwards is returned too. Where they
    differ, the model changed meanwhile, and what was cached under `stamp` is of another one.
    """
    return stages.describe_model(config), stages.model_stamp(config)


@task(
    name="ingest-corpus",
    task_run_name="ingest {config.name}",
    cache_key_fn=_corpus_key,
    persist_result=True,
    **RETRIES,
)
def ingest_corpus(
    warehouse: Warehouse, config: AuditConfig, model: ModelCard, stamp: str | None
) -> tuple[CorpusManifest, str | None]:
    """Bring the corpus into the warehouse; `stamp`, and what is returned beside it, as of `fingerprint_model`."""
    return stages.bring_in(warehouse, config, model), stages.corpus_stamp(config, model)
