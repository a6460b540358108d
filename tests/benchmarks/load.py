"""Load: a warehouse of fifty million tokens at thirteen depths, from writing to the report.

    python -m tests.benchmarks.load --rows 5 20 50

Synthetic reviews (words by Zipf's law, rarer ones of two tokens, 100 to 500 tokens each) with attributions of a model
of twelve blocks are written by the writer that audits use. The warehouse grows in steps (in millions of tokens); after
each the small shards are merged and a run over all of its documents is aggregated in a process of its own. The
questions of `calig query` and the report are asked of the last, largest run. Takes about 8 GB of disk in --folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calig.errors import InputError
from calig.files import write_json
from calig.records import Attribution, Failure
from calig.report.build import build
from calig.warehouse.compact import compact
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import query
from calig.warehouse.questions import questions
from calig.warehouse.shards import write_shard

RESULTS = Path(__file__).parent / "results"
BLOCKS, HEADS, KEY = 12, 12, "load"
VOCABULARY, FREQUENT = 40_000, 3_000
SHARD = 1_000  # documents
CLASSES = ("negative", "positive")
CATEGORIES = ("drama", "comedy", "horror")
OF_IMAGES = {"border-share", "regions", "centre-of-mass", "image-errors", "methods"}
AGGREGATE = """
import resource, sys, time
from calig.warehouse.aggregate import aggregate
from calig.warehouse.layout import Warehouse
start = time.perf_counter()
aggregate(Warehouse.open(sys.argv[1]), sys.argv[2])
print()
print(
    time.perf_counter() - start, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
)
"""


@dataclass(frozen=True, slots=True)
class Step:
    """What one size of the warehouse took: seconds, and GiB at most in memory while aggregating."""

    tokens: int
    documents: int
    shards: int
    gigabytes: float
    tokens_per_second: float
    compact_seconds: float
    files: int
    aggregate_seconds: float
    aggregate_cpu_seconds: float
    aggregate_gigabytes: float
    words: int


@dataclass(slots=True)
class Figures:
    """All that is measured."""

    cores: int
    steps: list[Step] = field(default_factory=list)
    questions: dict[str, float | str] = field(default_factory=dict)
    report_seconds: float = 0.0
    report_megabytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Language:
    """Words by frequency: how they are written, their tokens, and what they do to the class `positive`."""

    words: np.ndarray
    pieces: tuple[np.ndarray, np.ndarray]
    lengths: np.ndarray
    effects: np.ndarray
    chances: np.ndarray

    @classmethod
    def make(cls, rng: np.random.Generator) -> Language:
        """Words of 2 to 12 letters, no two the same; those beyond the most frequent are of two tokens."""
        letters = rng.integers(97, 123, (VOCABULARY, 12)).astype(np.uint8)
        sizes = rng.integers(2, 10, VOCABULARY)
        words = [
            bytes(row[:size]).decode() + format(number, "x")
            for number, (row, size) in enumerate(zip(letters, sizes, strict=True))
        ]
        split = [word if number < FREQUENT else word[:3] for number, word in enumerate(words)]
        rest = [None if number < FREQUENT else "##" + word[3:6] for number, word in enumerate(words)]
        frequencies = 1 / np.arange(2, VOCABULARY + 2)
        return cls(
            np.array(words, object),
            (np.array(split, object), np.array(rest, object)),
            np.array([len(word) for word in words]),
            np.where(rng.random(VOCABULARY) < 0.05, rng.normal(0, 0.4, VOCABULARY), 0.0),
            np.cumsum(frequencies / frequencies.sum()),
        )

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Numbers of `count` words."""
        return np.minimum(np.searchsorted(self.chances, rng.random(count)), VOCABULARY - 1)


@dataclass(frozen=True, slots=True)
class Review:
    """A document: its text, its key, its label, and what became of it."""

    text: str
    label: int
    item: Attribution | Failure


def reviews(language: Language, rng: np.random.Generator, first: int, count: int) -> Iterator[Review]:
    """Explained reviews, numbered from `first`; one in a thousand failed."""
    for number in range(first, first + count):
        words = language.draw(rng, int(rng.integers(80, 400)))
        key = hashlib.sha256(str(number).encode()).hexdigest()
        text = " ".join(language.words[words])
        if number % 1000 == 999:
            yield Review(text, 0, Failure(key, "non_finite", "the result is not finite"))
            continue
        yield explain(language, rng, words, text, key)


def explain(language: Language, rng: np.random.Generator, words: np.ndarray, text: str, key: str) -> Review:
    """An attribution that is complete at every depth, its words' effects fading with depth."""
    double = words >= FREQUENT
    own = np.repeat(np.arange(len(words)), 1 + double)
    second = np.zeros(len(own), bool)
    second[np.cumsum(1 + double)[double] - 1] = True
    ends = np.cumsum(language.lengths[words] + 1) - 1
    starts = ends - language.lengths[words]
    cut = np.minimum(starts + 3, ends)[own]
    begin = np.where(second, cut, starts[own])
    end = np.where(second | ~double[own], ends[own], cut)
    tokens = np.where(second, language.pieces[1][words[own]], language.pieces[0][words[own]])
    count = len(own) + 2
    effects = np.zeros(count, np.float32)
    effects[1:-1] = language.effects[words[own]] / (1 + double[own])
    fade = np.linspace(1, 0.3, BLOCKS + 1, dtype=np.float32)[:, None]
    layer_ig = effects * fade + 0.02 * rng.standard_normal((BLOCKS + 1, count), np.float32)
    positive = bool(effects.sum() > 0)
    layer_ig *= 1 if positive else -1
    layer_ig[:, -1] += layer_ig[0].sum() - layer_ig.sum(axis=1)
    context = (0.3 * effects + 0.01 * rng.standard_normal((BLOCKS, count), np.float32)) / HEADS
    change = float(layer_ig[0].sum())
    logits = np.array([-change / 2, change / 2] if positive else [change / 2, -change / 2], np.float32)
    error = rng.uniform(1e-4, 1.05e-2, BLOCKS + 1).astype(np.float32)
    inner = np.full(count, -1, np.int32)
    inner[1:-1] = own
    spans = np.zeros((count, 2), np.int32)
    spans[1:-1] = np.stack([begin, end], axis=1)
    special = inner < 0
    attribution = Attribution(
        key=key,
        tokens=["[CLS]", *tokens.tolist(), "[SEP]"],
        word_ids=inner,
        char_spans=spans,
        segments=np.where(special, -1, 0).astype(np.int32),
        is_special=special,
        layer_ig=layer_ig,
        context=context,
        context_norm=np.abs(context).sum(axis=1),
        relevance=context,
        scores=context[0],
        target=int(positive),
        predicted=int(positive),
        logits=logits,
        logit=float(logits.max()),
        baseline_logit=0.0,
        completeness_error=error / 3,
        error_estimate=error,
        converged=error <= 1e-2,
        nodes=rng.integers(4, 40, BLOCKS + 1).astype(np.int32),
        block_passes=400,
        seconds=0.05,
        truncated=False,
        heads=HEADS,
    )
    return Review(text, int(positive) if rng.random() < 0.9 else int(not positive), attribution)


class Load:
    """A warehouse that grows."""

    def __init__(self, root: Path) -> None:
        self.warehouse = Warehouse.open(root)
        self.folder = self.warehouse.attributions(KEY)
        self.rng = np.random.default_rng(0)
        self.language = Language.make(self.rng)
        self.parts: list[Path] = []
        self.documents = self.tokens = 0
        self.written = 0.0

    def grow(self, tokens: int) -> float:
        """Write shards until there are so many tokens; return how many tokens a second the writer took."""
        before, seconds = self.tokens, 0.0
        while self.tokens < tokens:
            made = list(reviews(self.language, self.rng, self.documents, SHARD))
            start = time.perf_counter()
            manifest = write_shard(
                self.warehouse.files, self.folder, [review.item for review in made], 50.0, run_id="load"
            )
            seconds += time.perf_counter() - start
            self.tokens += manifest.tokens
            self._add_part(made)
        return (self.tokens - before) / seconds

    def _add_part(self, made: Sequence[Review]) -> None:
        folder = self.warehouse.corpus(KEY)
        folder.mkdir(parents=True, exist_ok=True)
        numbers = range(self.documents, self.documents + len(made))
        table = pa.table(
            {
                "doc_id": pa.array(numbers, pa.int64()),
                "source_id": [f"r{number}" for number in numbers],
                "doc_key": [review.item.key for review in made],
                "text": [review.text for review in made],
                "label": pa.array([review.label for review in made], pa.int32()),
                "category": [CATEGORIES[number % 3] for number in numbers],
            }
        )
        path = folder / f"part-{len(self.parts):05d}.parquet"
        pq.write_table(table, path)
        self.parts.append(path)
        self.documents += len(made)

    def run(self, run_id: str) -> None:
        """Add a run over all documents there are."""
        columns = ["doc_id", "source_id", "doc_key", "label", "category"]
        table = pa.concat_tables([pq.read_table(path, columns=columns) for path in self.parts])
        folder = self.warehouse.run(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        table = table.add_column(0, "run_id", pa.array([run_id] * len(table)))
        pq.write_table(table, folder / "documents.parquet")
        started = datetime(2026, 5, 1, tzinfo=UTC) + timedelta(minutes=len(self.parts))
        model = {"id": "synthetic", "revision": None, "hash": "0" * 64, "classes": list(CLASSES)}
        method = {"target": "predicted", "output": "logit", "baseline": "pad", "tolerance": 1e-2}
        manifest = {
            **{"run_id": run_id, "name": "load", "status": "complete", "model": model},
            **{"started": started.isoformat(), "finished": started.isoformat()},
            "corpus": {"key": KEY, "source": "synthetic", "documents": self.documents},
            "attribution_key": KEY,
            "method": {**method, "fusion": "agreement", "weight": 0.5},
            **{"depths": BLOCKS + 1, "attributed": self.documents, "reused": 0},
            **{"config": {}, "versions": {}, "timings": {}},
        }
        write_json(folder / "manifest.json", manifest)

    def step(self, tokens: int) -> Step:
        """Grow, merge and aggregate."""
        rate = self.grow(tokens)
        shards = len(list(self.folder.glob("manifest-*.json")))
        start = time.perf_counter()
        files = len(compact(self.warehouse.files, self.folder))
        compacting = time.perf_counter() - start
        run_id = f"run-{tokens // 1_000_000:03d}"
        self.run(run_id)
        seconds, busy, memory = aggregate_apart(self.warehouse.root, run_id)
        [(words,)] = query(self.warehouse, "SELECT count(*) FROM word_stats", run_id).rows
        size = sum(path.stat().st_size for path in self.folder.iterdir()) / 1e9
        return Step(
            self.tokens, self.documents, shards, size, rate, compacting, files, seconds, busy, memory, words
        )


def aggregate_apart(root: Path, run_id: str) -> tuple[float, float, float]:
    """Aggregate in a process of its own; return seconds, seconds of all cores, and the most memory it had, in GiB."""
    done = subprocess.run(
        [sys.executable, "-c", AGGREGATE, str(root), run_id], check=True, capture_output=True, text=True
    )
    seconds, busy, memory = map(float, done.stdout.splitlines()[-1].split())
    return seconds, busy, memory


def ask(warehouse: Warehouse) -> dict[str, float | str]:
    """Seconds that each question about texts takes, asked of the newest run within 15 minutes and 2 GB."""
    found: dict[str, float | str] = {}
    for question in questions():
        if question.name in OF_IMAGES:
            continue
        start = time.perf_counter()
        try:
            query(warehouse, question.sql, seconds=900)
            found[question.name] = time.perf_counter() - start
        except InputError as error:
            found[question.name] = str(error)
        print(question.name, found[question.name], flush=True)
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[5, 20, 50], help="millions of tokens, rising")
    parser.add_argument("--folder", type=Path, default=None, help="where the warehouse is made, and deleted")
    asked = parser.parse_args()
    figures = Figures(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory(prefix="calig-load-", dir=asked.folder) as folder:
        load = Load(Path(folder))
        for rows in asked.rows:
            figures.steps.append(load.step(rows * 1_000_000))
            print(figures.steps[-1], flush=True)
        figures.questions = ask(load.warehouse)
        start = time.perf_counter()
        page = build(Warehouse.open(Path(folder)), f"run-{asked.rows[-1]:03d}")
        figures.report_seconds = time.perf_counter() - start
        figures.report_megabytes = page.stat().st_size / 1e6
    write(figures)


def write(figures: Figures) -> None:
    """Write `results/load.json` and `load.md`, and print the latter."""
    (RESULTS / "load.json").write_text(json.dumps(asdict(figures), indent=1) + "\n")
    lines = [
        "# Load",
        "",
        f"`python -m tests.benchmarks.load`, {figures.cores} cores: tokens with integrated gradients at {BLOCKS + 1} "
        f"depths and attention gradients of {BLOCKS} blocks, a column each.",
        "",
        "| tokens | documents | GB | written, tokens/s | shards → files | merging, s | aggregate, s | of all cores, s "
        "| peak memory, GiB | words |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {step.tokens / 1e6:.1f} M | {step.documents:,} | {step.gigabytes:.2f} | {step.tokens_per_second:,.0f} "
            f"| {step.shards} → {step.files} | {step.compact_seconds:.0f} | {step.aggregate_seconds:.0f} "
            f"| {step.aggregate_cpu_seconds:.0f} | {step.aggregate_gigabytes:.2f} | {step.words:,} |"
            for step in figures.steps
        ),
        "",
        f"The report: {figures.report_megabytes:.2f} MB, built in {figures.report_seconds:.0f} s.",
        "",
        "| question | seconds |",
        "|---|---|",
        *(
            f"| @{name} | {f'{seconds:.1f}' if isinstance(seconds, float) else seconds} |"
            for name, seconds in figures.questions.items()
        ),
    ]
    (RESULTS / "load.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
