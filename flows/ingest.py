"""Model and corpus into the warehouse."""

from __future__ import annotations

from calig import corpus as corpora
from calig.config import AuditConfig
from calig.corpus import CorpusManifest
from calig.warehouse.layout import Warehouse
from calig.workers import ModelCard
from flows.stage import stage
from tasks.ingest import fingerprint_model, ingest_corpus


@stage(name="calig-ingest", flow_run_name="ingest {config.name}")
def ingest(config: AuditConfig, refresh: bool = False) -> tuple[ModelCard, CorpusManifest]:
    """Fingerprint the model and bring in the corpus; a cached corpus is checked against its files, else redone.

    With `refresh`, nothing is taken from the cache.
    """
    retries = config.runtime.retries
    model = fingerprint_model.with_options(retries=retries, refresh_cache=refresh)(config)
    task = ingest_corpus.with_options(retries=retries, refresh_cache=refresh)
    corpus = task(config, model)
    root = Warehouse.open(config.warehouse).root
    corpora.claim(root, corpus)
    if not corpora.verify(root, corpus):
        corpus = task.with_options(refresh_cache=True)(config, model)
    return model, corpus
