"""The figures of a plan: what the pilot measured, times what the corpus holds; each says what it is based on."""

from __future__ import annotations

import math

import numpy as np

from calig.planning.pilot import Pilot
from calig.planning.predict import Means, Range, makespan, means
from calig.planning.rehearsal import ROWS
from calig.warehouse.compact import TARGET_BYTES
from calig.warehouse.plans import Figure, Unit, compute_of


def figures(pilot: Pilot, documents: int, counted: str, size: int, workers: int) -> list[Figure]:
    """Return what so many documents take.

    Parameters
    ----------
    pilot
        What was measured on some of them.
    documents
        Documents to explain.
    counted
        Where their number comes from, in words.
    size
        Documents of a shard.
    workers
        Workers, each as the one that ran the pilot.
    """
    known = pilot.whole and documents <= len(pilot.lengths)
    mean = means(pilot.costs, pilot.lengths, known)
    shards = math.ceil(documents / size)
    tokens = mean.tokens.times(documents)
    rehearsed = " and ".join(f"{rows:,}" for rows in ROWS)
    return [
        Figure("documents", documents, documents, documents, "documents", counted),
        _figure("tokens", tokens, "tokens", _of_lengths(pilot)),
        _figure("shards", Range.exact(shards), "shards", f"of {size} documents"),
        _figure(
            "block passes",
            mean.passes.times(documents),
            "passes",
            f"regression on tokens, {len(pilot.costs.tokens)} documents explained",
        ),
        _compute(pilot, mean, documents),
        _attribution(pilot, mean, documents, size, workers),
        _figure(
            "model load",
            Range.exact(pilot.load_seconds),
            "seconds",
            "measured once; each worker pays it, without Python's imports",
        ),
        *_memory(pilot, mean, min(size, documents)),
        *_bytes(pilot, tokens, documents, shards),
        _figure(
            "aggregate",
            _line(pilot.aggregate, 1, tokens),
            "seconds",
            f"the pilot's results repeated to {rehearsed} token rows and aggregated, in proportion beyond",
        ),
    ]


def _figure(name: str, found: Range, unit: Unit, basis: str) -> Figure:
    low, high = (None if math.isnan(end) else end for end in (found.low, found.high))
    return Figure(name, found.value, low, high, unit, basis)


def _of_lengths(pilot: Pilot) -> str:
    failing = int(np.sum(pilot.lengths == 0))
    which = "all documents" if pilot.whole else f"{len(pilot.lengths)} documents drawn at random"
    return f"counted in {which}" + (f", {failing} of which cannot be explained" if failing else "")


def _compute(pilot: Pilot, mean: Means, documents: int) -> Figure:
    """What attribution alone takes, whatever the number of workers."""
    unit, rate = compute_of(pilot.device, pilot.threads)
    pieces = len(np.unique(pilot.costs.pieces))
    noise = (
        f"and {pieces} pieces" if pieces > 1 else "in one piece, so that the machine's own noise is not known"
    )
    return _figure(
        unit,
        mean.seconds.times(rate * documents / 3600),
        unit,
        f"regression on passes and tokens, {len(pilot.costs.tokens)} documents {noise}"
        + (f"; threads: {pilot.threads}" if pilot.device == "cpu" else ""),
    )


def _attribution(pilot: Pilot, mean: Means, documents: int, size: int, workers: int) -> Figure:
    """Wall-clock time of attribution: whole shards, each worker pulling the next, after it has loaded its model."""
    seconds = mean.seconds.plus(pilot.other_seconds)
    bounds = (
        pilot.load_seconds + makespan(documents, size, workers, each)
        for each in (seconds.value, seconds.low, seconds.high)
    )
    share = pilot.other_seconds / seconds.value if seconds.value else 0.0
    return _figure(
        "attribution",
        Range(*bounds),
        "seconds",
        f"{workers} such worker{'s' if workers > 1 else ''} pulling shards; {share:.0%} of it reading and writing",
    )


def _memory(pilot: Pilot, mean: Means, size: int) -> list[Figure]:
    """A worker's peak: the pilot's, and what the results of a whole shard take more than those of the pilot."""
    held = pilot.held_bytes * max(0.0, size - pilot.documents)
    found = [
        _figure(
            "memory per worker",
            mean.tokens.times(held).plus(pilot.memory),
            "bytes",
            "peak of the process that ran the pilot, and the results of a shard",
        )
    ]
    if pilot.gpu_memory is not None:
        peak = Range.exact(pilot.gpu_memory)
        found.append(_figure("GPU memory per worker", peak, "bytes", "peak of the pilot"))
    return found


def _bytes(pilot: Pilot, tokens: Range, documents: int, shards: int) -> list[Figure]:
    """What lies in the warehouse: two Parquet files and a manifest for each shard, fewer once small ones are merged."""
    written = f"the pilot's {pilot.documents} documents as written, whole and half"
    token_bytes = _line(pilot.tokens_file, shards, tokens)
    document_bytes = _line(pilot.documents_file, shards, Range.exact(documents))
    files, merged = 3 * shards, 3 * math.ceil((token_bytes.value + document_bytes.value) / TARGET_BYTES)
    return [
        _figure("tokens Parquet", token_bytes, "bytes", written),
        _figure("documents Parquet", document_bytes, "bytes", written),
        _figure(
            "files",
            Range.exact(files),
            "files",
            f"3 per shard; about {min(files, merged)} once small shards are merged to {TARGET_BYTES // 2**20} MB",
        ),
    ]


def _line(fixed_and_slope: tuple[float, float], fixed_times: int, amount: Range) -> Range:
    fixed, slope = fixed_and_slope
    return amount.times(slope).plus(fixed * fixed_times)
