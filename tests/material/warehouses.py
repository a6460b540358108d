"""Synthetic warehouses: seeded attributions with planted word effects, for whatever reads a warehouse."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calig.files import Files, write_json
from calig.formats import stamp
from calig.records import Attribution, Failure, document_key
from calig.warehouse.layout import Warehouse
from calig.warehouse.shards import completed, write_shard, write_tables

HEADS = 4
CLASSES = ("negative", "positive", "neutral")
EFFECTS = {"awful": -1.5, "Boring": -0.8, "great": 1.4, "Superb": 0.9, "don't": -0.3, "naïve": 0.2}
FILLERS = ("the", "film", "was", "a", "story", "with", "actors", "unbelievable", "한국", "Ünder", "set", "🎬")
CATEGORIES = ("drama", "comedy", "horror")


def make_texts(documents: int, seed: int) -> list[str]:
    """Texts of 4 to 11 words; the last one repeats the first, so that two documents share a key."""
    rng = np.random.default_rng(seed)
    words = [*EFFECTS, *FILLERS]
    texts = [" ".join(rng.choice(words, size=rng.integers(4, 12))) for _ in range(documents)]
    texts[-1] = texts[0]
    return texts


def pieces(text: str) -> list[tuple[str, int, int, int]]:
    """Split into (token, word id, start, end): words of more than five letters become two sub-words."""
    found, start = [], 0
    for word_id, word in enumerate(text.split(" ")):
        end = start + len(word)
        middle = start + 4 if len(word) > 5 else end
        found.append((text[start:middle], word_id, start, middle))
        if middle < end:
            found.append(("##" + text[middle:end], word_id, middle, end))
        start = end + 1
    return found


def make_attribution(text: str, depths: int, seed: int, weight: float = 0.5) -> Attribution:
    """A consistent attribution of `text`: complete at each depth but for a small recorded error."""
    key = document_key(text)
    rng = np.random.default_rng([seed, int(key[:8], 16)])
    split = pieces(text)
    tokens = ["[CLS]", *(piece[0] for piece in split), "[SEP]"]
    count, words = len(tokens), text.split(" ")
    word_ids = np.array([-1, *(piece[1] for piece in split), -1], np.int32)
    spans = np.array([(0, 0), *((piece[2], piece[3]) for piece in split), (0, 0)], np.int32)
    special = word_ids < 0
    planted = np.array([EFFECTS.get(words[w], 0.0) if w >= 0 else 0.05 for w in word_ids])
    logits = np.array([-planted.sum(), planted.sum(), 0.2]) + rng.normal(0, 0.3, 3)
    logits = logits.astype(np.float32)
    predicted = int(logits.argmax())
    planted *= (-1.0, 1.0, 0.2)[predicted]  # relevance speaks for or against the explained class
    noise = rng.normal(0, 0.1, (depths, count))
    fade = np.linspace(1.0, 0.4, depths)[:, None]
    layer_ig = (planted * fade + noise).astype(np.float32)
    context = (0.3 * planted + rng.normal(0, 0.05, (depths - 1, count))).astype(np.float32)
    if rng.random() < 0.1:  # a block whose attention takes no part: zero norms must not give NaN
        context[0] = 0
    ig_norm = np.abs(layer_ig).sum(axis=1)[:-1, None]
    context_norm = np.abs(context).sum(axis=1).astype(np.float32)
    norms = context_norm[:, None]
    scaled = np.divide(context, norms, out=np.zeros_like(context), where=norms > 0)
    relevance = ((1 - weight) * layer_ig[:-1] / ig_norm + weight * scaled).astype(np.float32)
    error = rng.uniform(1e-4, 1.2e-2, depths).astype(np.float32)
    if int(key[8:12], 16) % 12:  # the others may be outside the tolerance, and are then in no statistics
        error = np.minimum(error, np.float32(9.9e-3))
    return Attribution(
        key=key,
        tokens=tokens,
        word_ids=word_ids,
        char_spans=spans,
        segments=np.where(special, -1, 0).astype(np.int32),
        is_special=special,
        layer_ig=layer_ig,
        context=context,
        context_norm=context_norm,
        relevance=relevance,
        scores=relevance.sum(axis=0),
        target=predicted,
        predicted=predicted,
        logits=logits,
        logit=float(logits[predicted]),
        baseline_logit=float(logits[predicted] - layer_ig[0].sum()),
        completeness_error=(error / 3).astype(np.float32),
        error_estimate=error,
        converged=error <= 1e-2,
        nodes=rng.integers(4, 40, depths).astype(np.int32),
        block_passes=int(rng.integers(50, 500)),
        seconds=float(rng.uniform(0.01, 0.1)),
        truncated=bool(rng.random() < 0.1),
        heads=HEADS,
    )


def make_items(
    texts: Sequence[str], depths: int, seed: int, weight: float = 0.5
) -> list[Attribution | Failure]:
    """One result per distinct text; every twentieth is a failure."""
    items: list[Attribution | Failure] = []
    for number, text in enumerate(dict.fromkeys(texts)):
        if number % 20 == 7:
            items.append(Failure(document_key(text), "non_finite", "the result is not finite"))
        else:
            items.append(make_attribution(text, depths, seed, weight))
    return items


def labels(texts: Sequence[str], seed: int) -> list[int | None]:
    """Labels that mostly follow the planted effects; one in ten is missing."""
    rng = np.random.default_rng([seed, 1])
    found: list[int | None] = []
    for text in texts:
        effect = sum(EFFECTS.get(word, 0.0) for word in text.split(" "))
        fitting = 1 if effect > 0.1 else 0 if effect < -0.1 else 2
        label = int(rng.integers(3)) if rng.random() < 0.2 else fitting
        found.append(None if rng.random() < 0.1 else label)
    return found


def make_warehouse(
    root: Path,
    documents: int = 60,
    depths: int = 4,
    seed: int = 0,
    *,
    run_id: str | None = None,
    weight: float = 0.5,
    fusion: str = "column",
    shards: int = 3,
    started: datetime | None = None,
) -> str:
    """Write a corpus, its attributions and a run into the warehouse at `root`, and return the run's id.

    Called again with other seeds, it adds runs. Nothing is aggregated: see `calig.warehouse.aggregate`.

    Parameters
    ----------
    root
        The warehouse's folder.
    documents, depths, seed
        Documents of the corpus; depths L+1 of the model; what everything random follows from.
    run_id
        The run's id; by default ``run-<seed>``.
    weight, fusion
        λ, and the fusion.
    shards
        Number of shards the attributions are cut into.
    started
        When the run started; by default, a day later for each seed.
    """
    warehouse = Warehouse.open(root)
    run_id = run_id or f"run-{seed}"
    started = started or datetime(2026, 3, 1, 2, tzinfo=UTC) + timedelta(days=seed)
    corpus_key = f"corpus-{documents}-{seed}"
    attribution_key = f"attribution-{documents}-{depths}-{seed}"
    texts = make_texts(documents, seed)
    corpus = write_corpus(warehouse, corpus_key, texts, seed)
    items = make_items(texts, depths, seed, weight)
    for number in range(shards):
        write_shard(
            warehouse.files, warehouse.attributions(attribution_key), items[number::shards], seconds=1.5
        )
    columns = ["doc_id", "source_id", "doc_key", "label", "category"]
    table = corpus.select(columns)
    table = table.add_column(0, "run_id", pa.array([run_id] * documents))
    warehouse.run(run_id).mkdir(parents=True, exist_ok=True)
    pq.write_table(table, warehouse.run(run_id) / "documents.parquet")
    manifest = {
        "run_id": run_id,
        "name": "synthetic",
        "status": "complete",
        "started": started.isoformat(),
        "finished": (started + timedelta(minutes=5)).isoformat(),
        "model": {
            "id": "synthetic/model",
            "revision": "main",
            "hash": f"{seed:064x}",
            "classes": list(CLASSES),
        },
        "corpus": {"key": corpus_key, "source": "synthetic.parquet", "documents": documents},
        "attribution_key": attribution_key,
        "method": {
            "target": "predicted",
            "output": "logit",
            "baseline": "pad",
            "tolerance": 1e-2,
            "max_nodes": 96,
            "max_length": None,
            "fusion": fusion,
            "weight": weight,
        },
        "depths": depths,
        "attributed": len(items),
        "reused": documents - len(items),
        "config": {"model": {"id": "synthetic/model"}},
        "versions": {"calig": "0.1.0"},
        "timings": {"ingest": 1.0, "attribute": 4.5},
        "own_block_passes": 1234,
        "own_seconds": 4.25,
        "schedule": None,
        **stamp(),
        "files": None,
    }
    write_json(warehouse.run(run_id) / "manifest.json", manifest)
    return run_id


def write_corpus(warehouse: Warehouse, key: str, texts: Sequence[str], seed: int) -> pa.Table:
    """Write the corpus in two parts, with an extra column `category`; return its rows."""
    folder, half = warehouse.corpus(key), len(texts) // 2
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "doc_id": pa.array(range(len(texts)), pa.int64()),
            "source_id": [f"s{number:03d}" for number in range(len(texts))],
            "doc_key": [document_key(text) for text in texts],
            "text": list(texts),
            "label": pa.array(labels(texts, seed), pa.int32()),
            "category": [CATEGORIES[number % 3] for number in range(len(texts))],
        }
    )
    for number, part in enumerate((table.slice(0, half), table.slice(half))):
        pq.write_table(part, folder / f"part-{number:05d}.parquet")
    write_json(folder / "manifest.json", {"key": key, "documents": len(texts)})
    return table


def as_before(folder: Path) -> None:
    """Write shards as they were when the attribution key said what is asked for: a row a document, of one class."""
    files = Files(folder)
    for shard in completed(files, folder):
        tables = {}
        for kind, new in (("documents", "rival"), ("tokens", "target")):
            for path in shard.paths(folder, kind):
                tables[kind] = pq.read_table(path).drop_columns([new])
        counts = {name: getattr(shard, name) for name in ("documents", "failures", "tokens")}
        write_tables(files, folder, shard.shard, tables, **counts, seconds=shard.seconds)
