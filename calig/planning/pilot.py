"""The pilot: some of the corpus's missing documents explained as a worker would, and everything measured on the way.

They are spread evenly over the lengths that occur, in pieces of 8, 8, 16, 32 … documents until a minute is spent. Their
results are kept as a shard of the warehouse, as those of any other document: nothing is paid for twice. So are those of
a pilot that is interrupted.
"""

from __future__ import annotations

import heapq
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from calig.attribution.explainer import Explainer
from calig.corpus.reading import read_rows
from calig.errors import InputError
from calig.files import Files
from calig.planning.predict import Costs, line
from calig.planning.rehearsal import rehearse
from calig.records import Attribution, Failure
from calig.stages import Run, read_documents, schedule_of
from calig.warehouse.plans import peak_memory
from calig.warehouse.shards import ShardManifest, write_shard
from calig.workers import load_explainer

PIECE = 8
PIECES = 3
"""Pieces at least: the first, in which all is cold, and two that show how far times differ."""

SECONDS = 60.0
"""What the pilot may take, beyond its first piece; but for the pieces that there are at least."""

LENGTHS = {"text": 5_000, "image": 256}
"""Documents whose tokens are counted; all, where there are no more."""


@dataclass(frozen=True, slots=True, eq=False)
class Pilot:
    """What was measured.

    Attributes
    ----------
    lengths, left, whole
        Tokens of a random sample of the missing documents, 0 of one that cannot be explained; of those among them that
        the pilot left; whether the sample is all.
    costs
        Of the pilot's documents; the first piece, in which all is cold, is left out where there are others.
    documents
        Documents that the pilot explained.
    device, threads
        The kind of device that it ran on, and the CPU threads that it had.
    load_seconds
        To load the model and check its hash.
    other_seconds
        Per document: to read, tokenise and write it.
    memory, gpu_memory
        Peak bytes of the process, and on the GPU; the latter None on a CPU.
    held_bytes
        Memory that a token's results take until their shard is written.
    tokens_file, documents_file
        Bytes of a shard's files: of an empty one, and per token or document.
    aggregate
        Seconds of the aggregate: of no tokens, and per token.
    """

    lengths: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    whole: bool
    costs: Costs
    documents: int
    device: str
    threads: int
    load_seconds: float
    other_seconds: float
    memory: int
    gpu_memory: int | None
    held_bytes: float
    tokens_file: tuple[float, float]
    documents_file: tuple[float, float]
    aggregate: tuple[float, float]


def run_pilot(run: Run, missing: Sequence[int], progress: Callable[[str], None]) -> Pilot:
    """Measure on some of the missing documents: at least one, half of them at most.

    Parameters
    ----------
    run
        Under which key, and how, they are explained; it need not have a folder.
    missing
        Row numbers of the documents that are missing.
    progress
        Told what is going on.

    Raises
    ------
    InputError
        None of the documents tried can be explained.
    """
    start = time.perf_counter()
    explainer = load_explainer(run.config, run.model, schedule_of(run))
    load_seconds = time.perf_counter() - start
    progress("counting tokens …")
    doc_ids, lengths = _lengths(run, explainer, missing)
    _reset_gpu(explainer)
    tried = _Tried([], [], [], [])
    try:
        _explain(run, explainer, tried, doc_ids, lengths, max(1, len(missing) // 2), progress)
    except BaseException:
        if any(isinstance(item, Attribution) for item in tried.items):
            _keep(run, tried)
        raise
    memory, gpu_memory = peak_memory(), _gpu_memory(explainer)
    explained = [item for item in tried.items if isinstance(item, Attribution)]
    if not explained:
        reason = tried.items[0].detail if tried.items and isinstance(tried.items[0], Failure) else "no tokens"
        raise InputError(
            f"corpus: none of the documents tried can be explained ({reason}): nothing to plan from"
        )
    start = time.perf_counter()
    whole, half = _write(run, tried)
    writing = time.perf_counter() - start
    progress("rehearsing the aggregate …")
    idle = max(0.0, sum(tried.walls) - sum(item.seconds for item in explained))
    return Pilot(
        lengths=lengths,
        left=lengths[~np.isin(doc_ids, tried.doc_ids)],
        whole=len(lengths) == len(missing),
        costs=_costs(tried),
        documents=len(tried.items),
        device=explainer.engine.classifier.device.type,
        threads=torch.get_num_threads(),
        load_seconds=load_seconds,
        other_seconds=(idle + writing) / len(tried.items),
        memory=memory,
        gpu_memory=gpu_memory,
        held_bytes=_held_bytes(explained),
        tokens_file=line(_size(half, "tokens"), _size(whole, "tokens")),
        documents_file=line(_size(half, "documents"), _size(whole, "documents")),
        aggregate=line(*rehearse(run, explained, tried.doc_ids)),
    )


def _lengths(
    run: Run, explainer: Explainer, missing: Sequence[int]
) -> tuple[list[int], npt.NDArray[np.int64]]:
    """Return the missing documents with the smallest content hashes, which are a random sample, and their tokens."""
    rows = read_rows(run.corpus, run.warehouse.files, ["doc_id", "doc_key"])
    wanted = set(missing)
    keys = zip(rows["doc_key"].to_pylist(), rows["doc_id"].to_pylist(), strict=True)
    found = heapq.nsmallest(
        LENGTHS[run.model.modality], ((key, doc_id) for key, doc_id in keys if doc_id in wanted)
    )
    doc_ids = sorted(doc_id for _, doc_id in found)
    documents = read_documents(run.warehouse, run.config, run.model, run.corpus, doc_ids)
    encoded = explainer.engine.encoder.read(documents)
    return doc_ids, np.array([0 if isinstance(item, Failure) else len(item) for item in encoded])


@dataclass(slots=True, eq=False)
class _Tried:
    """Results of the documents that were tried, the piece that each was in, and the seconds of each piece."""

    doc_ids: list[int]
    items: list[Attribution | Failure]
    pieces: list[int]
    walls: list[float]


def _explain(
    run: Run,
    explainer: Explainer,
    tried: _Tried,
    doc_ids: Sequence[int],
    lengths: npt.NDArray[np.int64],
    most: int,
    progress: Callable[[str], None],
) -> None:
    """Explain pieces of twice as many documents each, until the next would take too long, or there are no more."""
    left = [int(i) for i in np.argsort(lengths, kind="stable") if lengths[i] > 0]
    size = PIECE
    while left and (room := min(size, most - len(tried.items))) > 0:
        if len(tried.walls) >= PIECES and sum(tried.walls[1:]) + 2 * tried.walls[-1] > SECONDS:
            break
        piece = spread_over(left, room)
        tell = counter(
            progress, "explaining documents of the pilot", len(tried.items) + len(piece), len(tried.items)
        )
        own = sorted(doc_ids[i] for i in piece)
        start = time.perf_counter()
        documents = read_documents(run.warehouse, run.config, run.model, run.corpus, own)
        tried.items += explainer.attribute(documents, progress=tell)
        tried.pieces += [len(tried.walls)] * len(own)
        tried.walls.append(time.perf_counter() - start)
        tried.doc_ids += own
        left = [i for i in left if i not in set(piece)]
        size = max(PIECE, len(tried.items))


def counter(progress: Callable[[str], None], what: str, total: int, done: int = 0) -> Callable[[int], None]:
    """Return what counts the documents that are done, and tells how many of all there are."""

    def tell(more: int) -> None:
        nonlocal done
        done += more
        progress(f"{what}: {done} of {total} …")

    tell(0)
    return tell


def spread_over(ordered: Sequence[int], count: int) -> list[int]:
    """Return so many of the items, or all, evenly spaced in their order."""
    count = min(count, len(ordered))
    return [ordered[int((i + 0.5) * len(ordered) / count)] for i in range(count)]


def _costs(tried: _Tried) -> Costs:
    """What the explained documents took, without the first piece where there are documents in others."""
    rows = [
        (len(item.tokens), item.block_passes, item.seconds, piece)
        for item, piece in zip(tried.items, tried.pieces, strict=True)
        if isinstance(item, Attribution)
    ]
    rows = [row for row in rows if row[3] > 0] or rows
    tokens, passes, seconds, pieces = (np.array(column) for column in zip(*rows, strict=True))
    return Costs(tokens.astype(np.float64), passes.astype(np.float64), seconds, pieces)


def _write(run: Run, tried: _Tried) -> tuple[ShardManifest, ShardManifest | None]:
    """Keep the results as a shard; and write half of them elsewhere, to see what a row takes and what a file."""
    half = tried.items[: len(tried.items) // 2]
    smaller = None
    if any(isinstance(item, Attribution) for item in half):
        with tempfile.TemporaryDirectory(prefix="calig-plan-") as folder:
            smaller = write_shard(Files(Path(folder)), Path(folder), half, 0.0, run.model.modality)
    return _keep(run, tried), smaller


def _keep(run: Run, tried: _Tried) -> ShardManifest:
    with run.warehouse.writer_lock(run.folder):
        seconds = sum(tried.walls)
        return write_shard(run.warehouse.files, run.folder, tried.items, seconds, run.model.modality)


def _size(shard: ShardManifest | None, kind: Literal["tokens", "documents"]) -> tuple[float, float]:
    """Rows and bytes of a shard's file of a kind."""
    if shard is None:
        return 0.0, 0.0
    return float(getattr(shard, kind)), float(shard.size(kind))


def _held_bytes(explained: Sequence[Attribution]) -> float:
    """Memory per token of results that wait to be written: their arrays, and the table made of them."""
    arrays = (
        "layer_ig",
        "context",
        "relevance",
        "scores",
        "word_ids",
        "char_spans",
        "segments",
        "is_special",
    )
    held = sum(getattr(item, name).nbytes for item in explained for name in arrays)
    strings = sum(sys.getsizeof(token) for item in explained for token in item.tokens)
    return float(2 * held + strings) / sum(len(item.tokens) for item in explained)


def _reset_gpu(explainer: Explainer) -> None:
    device = explainer.engine.classifier.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _gpu_memory(explainer: Explainer) -> int | None:
    device = explainer.engine.classifier.device
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None
