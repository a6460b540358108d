"""The aggregate, rehearsed: the pilot's results repeated under new keys in a warehouse of its own, and aggregated."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from calig import stages
from calig.config import GatesConfig
from calig.corpus import CorpusManifest
from calig.corpus.manifest import describe
from calig.corpus.reading import read_rows
from calig.records import Attribution
from calig.stages import Run
from calig.warehouse.layout import Warehouse
from calig.warehouse.shards import write_shard

ROWS = (10_000, 100_000)
"""Token rows of the two aggregates that are timed."""


def rehearse(
    run: Run, explained: Sequence[Attribution], doc_ids: Sequence[int]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return token rows and seconds of two aggregates of the pilot's results, a smaller and a larger one.

    The words are those of the pilot, however often it is repeated: a corpus has more different ones.
    """
    tokens = sum(len(item.tokens) for item in explained)
    rows = read_rows(run.corpus, run.warehouse.files, _columns(run), doc_ids)
    small, large = (max(1, wanted // tokens) for wanted in ROWS)
    copies = (small, max(large, small + 1))
    seconds = [_aggregate(run, explained, rows, times) for times in copies]
    return (copies[0] * tokens, seconds[0]), (copies[1] * tokens, seconds[1])


def _columns(run: Run) -> list[str]:
    part = run.corpus.parts(run.warehouse.root)[0]
    return list(pq.read_schema(part).names)


def _aggregate(run: Run, explained: Sequence[Attribution], rows: pa.Table, times: int) -> float:
    """Seconds that it takes to aggregate so many copies of the results."""
    with tempfile.TemporaryDirectory(prefix="calig-plan-") as folder:
        warehouse = Warehouse.open(folder)
        schedule = warehouse.schedules / f"{run.schedule_key}.json"
        schedule.parent.mkdir()
        shutil.copy(run.warehouse.schedules / schedule.name, schedule)
        alone = {"warehouse": folder, "compare_to": (), "gates": GatesConfig()}  # there is no other run
        config = run.config.model_copy(update=alone)
        corpus = _corpus(run, warehouse.root, rows, times)
        rehearsal = stages.start_run(warehouse, config, run.model, corpus, schedule)
        items = [replace(item, key=f"{item.key}-{copy}") for copy in range(times) for item in explained]
        write_shard(warehouse.files, rehearsal.folder, items, 0.0, run.model.modality, rehearsal.run_id)
        start = time.perf_counter()
        stages.aggregate_run(rehearsal, len(items), {})
        seconds = time.perf_counter() - start
        stages.stop_run(rehearsal)
        return seconds


def _corpus(run: Run, root: Path, rows: pa.Table, times: int) -> CorpusManifest:
    """Write the documents' rows so many times, each with keys of its own, as a corpus."""
    corpus = replace(run.corpus, key="rehearsal", documents=len(rows) * times)
    keys = rows["doc_key"].to_pylist()
    copies = pa.concat_tables([rows] * times)
    changed = {
        "doc_key": pa.array([f"{key}-{copy}" for copy in range(times) for key in keys], pa.string()),
        "doc_id": pa.array(range(len(copies)), copies.schema.field("doc_id").type),
    }
    for name, values in changed.items():
        position = copies.column_names.index(name)
        copies = copies.set_column(position, copies.schema.field(position), values)
    part = corpus.folder(root) / "part-0.parquet"
    part.parent.mkdir(parents=True)
    pq.write_table(copies, part)
    return replace(corpus, files={part.name: describe(part)})
