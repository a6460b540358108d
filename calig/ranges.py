"""Ranges of a run's shards, for work that is shared out by number: the run's state is read back from the warehouse.

`runs/<id>/shards.parquet` says which documents each shard holds; the rest is in the run's manifest. So whoever has the
audit's configuration and can read the warehouse can take part in a run, on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from calig.config import AuditConfig
from calig.corpus.manifest import load_corpus
from calig.corpus.reading import label_of, read_rows
from calig.errors import InputError
from calig.records import Document
from calig.stages import Run, name_of
from calig.warehouse.layout import Warehouse
from calig.warehouse.missing import Shards
from calig.warehouse.runs import read_run
from calig.warehouse.shards import completed
from calig.workers import ModelCard, key_of, read_schedule, schedule_path

SHARDS = "shards.parquet"


def guided(count: int, workers: int) -> list[range]:
    """Divide so many shards, from 0, into ranges, each half of what then falls to a worker: the last ones are short.

    Guided self-scheduling (Polychronopoulos and Kuck, 1987) takes all that falls to a worker, not half.
    """
    ranges: list[range] = []
    first = 0
    while first < count:
        size = max(1, math.ceil((count - first) / (2 * workers)))
        ranges.append(range(first, min(count, first + size)))
        first += size
    return ranges


def write_shards(run: Run, shards: Shards) -> None:
    """Write which documents (row numbers of the corpus) each shard holds, by its number from 0."""
    numbers = (np.arange(len(shards.doc_ids)) // shards.size).astype(np.int32)
    with run.warehouse.files.making(run.warehouse.run(run.run_id) / SHARDS) as part:
        pq.write_table(pa.table({"shard": numbers, "doc_id": shards.doc_ids}), part, compression="zstd")


def read_shards(run: Run, numbers: Sequence[int]) -> dict[int, list[int]]:
    """Return the documents of the shards of these numbers.

    Raises
    ------
    InputError
        If the run has no such shard.
    """
    path = run.warehouse.run(run.run_id) / SHARDS
    try:
        rows = pq.read_table(path, filters=pc.field("shard").isin(list(numbers)))
    except FileNotFoundError:
        raise InputError(
            f"run {run.run_id}: no {path}; only an audit on a work pool shares out shards"
        ) from None
    found: dict[int, list[int]] = {}
    for number, doc_id in zip(rows["shard"].to_pylist(), rows["doc_id"].to_pylist(), strict=True):
        found.setdefault(number, []).append(doc_id)
    if missing := set(numbers) - set(found):
        raise InputError(f"run {run.run_id} has no shard {min(missing)}")
    return found


def unfinished(run: Run, shards: Mapping[int, Sequence[int]]) -> list[int]:
    """Return the numbers of those shards, among these, that are not in the warehouse."""
    done = {manifest.shard for manifest in completed(run.warehouse.files, run.folder, check=False)}
    wanted = [doc_id for doc_ids in shards.values() for doc_id in doc_ids]
    labels = ["label"] if run.asked == "label" else []
    rows = read_rows(run.corpus, run.warehouse.files, ["doc_id", "doc_key", *labels], wanted).to_pylist()
    documents = {
        row["doc_id"]: Document(row["doc_key"], label=label_of(row) if labels else None) for row in rows
    }
    return [
        number
        for number, doc_ids in shards.items()
        if name_of(run, [documents[doc_id] for doc_id in doc_ids]) not in done
    ]


def find_run(warehouse: Warehouse, config: AuditConfig, run_id: str) -> Run:
    """Return a run under way, as its warehouse knows it, to take part in it.

    Parameters
    ----------
    warehouse
        Where it is.
    config
        The audit, as it is here: paths may differ from those where the run was started.
    run_id
        The run's full id.

    Raises
    ------
    InputError
        If the run is not there or not under way, or what would be computed here is not what it computes: another
        method, or another version of the engine.
    """
    manifest = read_run(warehouse, run_id)
    if manifest.status != "running":
        raise InputError(f"run {run_id} is {manifest.status}: nothing of it is left to do")
    model = ModelCard.of_run(manifest)
    path = schedule_path(warehouse, config, model)
    schedule = read_schedule(path)
    same = config.method.target == manifest.method["target"]
    if not same or schedule is None or key_of(config, model, schedule) != manifest.attribution_key:
        raise InputError(
            f"run {run_id}: with the configuration and the calig of this worker, its results would be others, or "
            "lie under another key; install the same version here, and leave method and model as they are while "
            "the run is under way"
        )
    corpus = load_corpus(warehouse.files, manifest.corpus["key"])
    key, started = manifest.attribution_key, manifest.started
    return Run(warehouse, run_id, config, model, corpus, path.stem, key, started)
