"""Two workers against one, by each engine, and against two processes that know nothing of each other.

    CALIG_SHARED=… python -m tests.benchmarks.scaling --documents 256

Sentences of SST-2, explained at every depth by minilm-sst2, in shards of 8 documents, on one CPU thread per worker.
Model and schedule are loaded, and each worker has explained two documents, before the clock starts. The peer: the same
shards done by one process alone and, by turns, by two that start together and have nothing to do with each other. Each
round measures all of them one after the other; the speed-up is the time of one worker over that of two.
"""

from __future__ import annotations

import argparse
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from calig import stages
from calig.config import parse_config
from calig.engines import open_engine
from calig.stages import Run
from tests.material.audits import begin

RESULTS = Path(__file__).parent / "results" / "scaling.md"
SHARD = 8
WANTED = 0.85


def prepare(root: Path, documents: int) -> Run:
    """Open a run over so many sentences."""
    shared = Path(os.environ["CALIG_SHARED"])
    config = parse_config(
        {
            "name": "scaling",
            "model": {"id": str(shared / "models" / "minilm-sst2")},
            "corpus": {
                "path": str(shared / "corpora" / "sst2-dev.parquet"),
                "limit": documents,
                "label": "label",
            },
            "method": {"tolerance": 0.05},
            "runtime": {"threads": 1, "shard_documents": SHARD, "device": "cpu"},
            "warehouse": str(root / "warehouse"),
        }
    )
    return begin(config)


def lap(run: Run, shards: Sequence[list[int]], engine: str, workers: int) -> float:
    """Return the seconds that an engine takes for the shards with so many workers, which are there and warm."""
    from flows.shards import side_by_side

    runtime = run.config.runtime.model_copy(update={"engine": engine, "workers": workers})
    run = replace(run, config=run.config.model_copy(update={"runtime": runtime}))
    with open_engine(run.config) as opened:
        together = threading.Barrier(workers)

        def warm(_: int) -> None:
            together.wait()
            opened.run(stages.attribute_shard, run, shards[0][:2], progress=ignore)
            together.wait()

        def call(doc_ids: list[int]) -> None:
            opened.run(stages.attribute_shard, run, doc_ids, progress=ignore)

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(warm, range(workers)))
        start = time.perf_counter()
        for _ in side_by_side(call, ({"doc_ids": doc_ids} for doc_ids in shards), opened):
            pass
        seconds = time.perf_counter() - start
        assert opened.loads == {} or engine == "threads" or len(opened.loads) == workers
        return seconds


def ignore(documents: int) -> None:
    """Take no note of progress."""


def independent(run: Run, shards: Sequence[list[int]], count: int) -> float:
    """Return the seconds that so many processes of their own take for the shards, by turns."""
    started = []
    for number in range(count):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.scaling", "--alone"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert process.stdin is not None
        pickle.dump((run, shards[number::count]), process.stdin)
        process.stdin.flush()
        started.append(process)
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    start = time.perf_counter()
    for process in started:  # all of them, before any is waited for
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in started:
        process.wait()
    assert all(process.returncode == 0 for process in started)
    return time.perf_counter() - start


def alone() -> None:
    """Do the shards that standard input brings, once it says so."""
    run, shards = pickle.load(sys.stdin.buffer)
    stages.attribute_shard(run, shards[0][:2])
    print("ready", flush=True)
    sys.stdin.buffer.readline()
    for doc_ids in shards:
        stages.attribute_shard(run, doc_ids)
    os._exit(0)  # the time that torch takes to end is no part of it


def main() -> None:
    """Measure, print, and write the figures down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["threads", "processes", "ray"])
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        alone()
    measured: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="calig-scaling-") as folder:
        run = prepare(Path(folder), asked.documents)
        shards = list(stages.missing_shards(run))
        ways: dict[str, Callable[[int], float]] = {"independent": partial(independent, run, shards)}
        ways |= {engine: partial(lap, run, shards, engine) for engine in asked.engines}
        for _ in range(asked.rounds):
            for name, way in ways.items():
                measured.setdefault(name, []).append((way(1), way(2)))
                print(name, measured[name][-1], flush=True)
    write(measured, asked.documents)


def write(measured: dict[str, list[tuple[float, float]]], documents: int) -> None:
    """Write the figures down, each the median of the rounds."""
    peer = [one / two for one, two in measured["independent"]]
    lines = [
        "# Two workers against one",
        "",
        f"`python -m tests.benchmarks.scaling --documents {documents}`: {documents} sentences of SST-2, minilm-sst2, "
        f"shards of {SHARD}, one CPU thread per worker, {len(peer)} round{'s' if len(peer) > 1 else ''}; medians. "
        f"The ratio, of a round, is the engine's speed-up over that of two independent processes; {WANTED} is wanted. "
        f"{os.cpu_count()} CPU cores.",
        "",
        "| | 1 worker, s | 2 workers, s | speed-up | ratio |",
        "|---|---|---|---|---|",
    ]
    for name, rounds in measured.items():
        ups = [one / two for one, two in rounds]
        ratio = statistics.median(up / other for up, other in zip(ups, peer, strict=True))
        one, two = (statistics.median(times) for times in zip(*rounds, strict=True))
        up = statistics.median(ups)
        lines.append(f"| {name} | {one:.1f} | {two:.1f} | {up:.2f} | {ratio:.2f} |")
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
