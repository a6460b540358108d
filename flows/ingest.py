"""Model and corpus into the warehouse."""

from __future__ import annotations

from typing import Any

from calig import corpus as corpora
from calig import stages
from calig.config import AuditConfig
from calig.corpus import CorpusManifest
from calig.warehouse.layout import Warehouse
from calig.workers import ModelCard
from flows.stage import stage
from tasks.ingest import fingerprint_model, ingest_corpus


@stage(name="calig-ingest", flow_run_name="ingest {config.name}", validate_parameters=False)
def ingest(
    warehouse: Warehouse, config: AuditConfig, refresh: bool = False
) -> tuple[ModelCard, CorpusManifest]:
    """Fingerprint the model and bring in the corpus; a cached corpus is checked against its files, else redone.

    What changed while it was read is read once more. With `refresh`, nothing is taken from the cache.
    """
    options: dict[str, Any] = {"retries": config.runtime.retries, "refresh_cache": refresh}
    describe, bring_in = fingerprint_model.with_options(**options), ingest_corpus.with_options(**options)
    stamp = stages.model_stamp(config)
    model, after = describe(config, stamp)
    if after != stamp:
        model, _ = describe.with_options(refresh_cache=True)(config, stages.model_stamp(config))
    source = stages.corpus_stamp(config, model)
    corpus, brought = bring_in(warehouse, config, model, source)
    corpora.claim(warehouse.root, corpus)
    if (source is not None and brought != source) or not corpora.verify(warehouse.files, corpus):
        source = stages.corpus_stamp(config, model)
        corpus, _ = bring_in.with_options(refresh_cache=True)(warehouse, config, model, source)
    return model, corpus
