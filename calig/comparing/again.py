"""Paired documents of which the run explains another class than its reference, explained again for the reference's.

They are rows like those of any audit that explains these classes: they lie under the key that such an audit of this
model has, which is the run's own unless an earlier version made the run, and are not computed twice.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from calig.comparing.differences import made_by
from calig.config import AuditConfig, parse_config
from calig.corpus.manifest import load_corpus
from calig.corpus.reading import content_columns, document_of, read_rows
from calig.errors import InputError
from calig.formats import ENGINE_VERSION
from calig.records import Document, document_key, image_key
from calig.stages import LOCK_SECONDS, shard_size
from calig.warehouse.explained import FILE, SCHEMA
from calig.warehouse.layout import Warehouse
from calig.warehouse.pairing import Pairing
from calig.warehouse.runs import RunManifest
from calig.warehouse.shards import held_rows, row_key, write_shard
from calig.warehouse.views import RUN_COLUMNS, RunFiles, attributed
from calig.workers import ModelCard, key_of, method_of, stored_schedule, workers_explainer

if TYPE_CHECKING:
    from calig.attribution.schedule import Schedule

logger = logging.getLogger(__name__)


def explain_again(warehouse: Warehouse, b: RunFiles, pair: Pairing) -> tuple[int, list[str]]:
    """Explain in run b's model, for the reference's class, the paired documents of which it explained another.

    Returns how many there are now, and the keys that their attributions lie under. Where the model cannot be loaded
    any more, or is another one, they stay as they are: the pairing leaves them out.
    """
    run = b.manifest
    known = {name: index for index, name in enumerate(run.classes)}
    flips = [(doc_id, known[name]) for doc_id, name in pair.flips() if name in known]
    if not pair.paired or not flips or run.head == "regression":
        return 0, []
    engine, _ = made_by(warehouse, run)
    if engine != ENGINE_VERSION:  # numbers of two engines are not mixed in one run
        logger.warning(
            "run %s: %d documents are not explained again: its engine is version %s, and this one's %s",
            *(run.run_id, len(flips), engine or "not recorded", ENGINE_VERSION),
        )
        return 0, []
    try:
        config, model, schedule, key = _labelled(warehouse, run)
        documents = _explain(warehouse, run, config, model, schedule, key, flips)
    except (InputError, OSError) as error:
        logger.warning("run %s: %d documents cannot be explained again: %s", run.run_id, len(flips), error)
        return 0, []
    with tempfile.TemporaryDirectory(prefix="calig-again-") as folder:
        return pair.replace(_as_run(warehouse, b, key, documents, Path(folder))), [key]


def _labelled(warehouse: Warehouse, run: RunManifest) -> tuple[AuditConfig, ModelCard, Schedule | None, str]:
    """The run's configuration with the label as target, its model, its schedule, and the key of such attributions."""
    from calig.attribution.schedule import Schedule as Steps

    config = parse_config({**run.config, "warehouse": str(warehouse.root)})
    model = ModelCard.of_run(run)
    schedule = stored_schedule(warehouse, config, model)
    method = config.method.model_copy(update={"target": "label"})
    config = config.model_copy(update={"method": method})
    steps = schedule or Steps.default(method_of(config, model).quadrature, model.depth)
    return config, model, schedule, key_of(config, model, steps)


def _explain(
    warehouse: Warehouse,
    run: RunManifest,
    config: AuditConfig,
    model: ModelCard,
    schedule: Schedule | None,
    key: str,
    flips: Sequence[tuple[int, int]],
) -> dict[int, Document]:
    """See that the rows under `key` hold these documents, (row number, class index); return what they are there."""
    labels = dict(flips)
    corpus = load_corpus(warehouse.files, run.corpus["key"])
    columns = ["doc_id", *content_columns(model.modality, config.corpus.text_pair is not None)]
    rows = read_rows(corpus, warehouse.files, columns, list(labels)).to_pylist()
    documents = {row["doc_id"]: _labelled_document(row, model, labels[row["doc_id"]]) for row in rows}
    folder = warehouse.attributions(key)
    with warehouse.writer_lock(folder, wait=LOCK_SECONDS):
        done = held_rows(warehouse.files, folder)
        wanted = {row_key(own.key, own.label): own for own in documents.values()}
        missing = [
            own
            for row, own in wanted.items()
            if row not in done and row_key(own.key, None) not in done  # else it cannot be explained at all
        ]
        size = config.runtime.shard_documents or shard_size(schedule)
        for first in range(0, len(missing), size):
            start = time.perf_counter()
            items = workers_explainer(config, model, schedule).attribute(missing[first : first + size])
            seconds = time.perf_counter() - start
            write_shard(warehouse.files, folder, items, seconds, model.modality)
    return documents


def _labelled_document(row: dict[str, Any], model: ModelCard, label: int) -> Document:
    """The document in a row of the corpus, with this label, and the key of its content, which older keys may not be."""
    document = replace(document_of(row, model.modality, labelled=False), label=label)
    if model.modality == "text":
        return replace(document, key=document_key(document.text, document.pair))
    image = document.image
    return replace(document, key=image_key(image.read_bytes() if isinstance(image, Path) else image))


def _as_run(
    warehouse: Warehouse, run: RunFiles, key: str, documents: dict[int, Document], folder: Path
) -> RunFiles:
    """The run with these documents alone, explained for their labels under `key`; its own files go into `folder`."""
    table = pq.read_table(run.documents, columns=list(RUN_COLUMNS))
    chosen = table.filter(pa.array([doc_id in documents for doc_id in table["doc_id"].to_pylist()]))
    found = [documents[doc_id] for doc_id in chosen["doc_id"].to_pylist()]
    own = pa.array([one.key for one in found], pa.string())
    chosen = chosen.set_column(chosen.column_names.index("doc_key"), "doc_key", own)
    pq.write_table(chosen, folder / "documents.parquet")
    classes = pa.array([one.label for one in found], pa.int32())
    pq.write_table(pa.table([chosen["doc_id"], classes], schema=SCHEMA), folder / FILE)
    manifest = replace(run.manifest, attribution_key=key)
    words = None if run.words is None else folder / "words.parquet"
    return RunFiles(
        manifest,
        folder / "documents.parquet",
        run.corpus,
        *attributed(warehouse, key),
        words=words,
        explained=folder / FILE,
    )
