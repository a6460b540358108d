"""What the pipeline's tests audit: a tiny random BERT classifier, short texts, and the tables that come out."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from calig.config import AuditConfig, parse_config
from calig.warehouse.catalog import TABLES
from calig.warehouse.layout import Warehouse

_WORDS = """
    the a film plot cast scene was is and but not very rather good bad fine dull bright slow sharp warm cold
    great poor clever silly long short funny sad music story ending light dark old new odd plain rich thin
"""
WORDS = _WORDS.split()
BROKEN = "nan"
"""A word of the vocabulary; `save_model(…, broken=True)` gives it an embedding of NaN."""
CLASSES = ("negative", "positive")
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
MAX_TOKENS = 24

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Audited:
    """A warehouse with one finished run."""

    warehouse: Path
    run_id: str
    report: Path


def save_model(folder: Path, seed: int = 0, broken: bool = False) -> Path:
    """Save a random BERT classifier of 3 blocks and 16 dimensions, with its tokenizer, in the hub's layout."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {token: index for index, token in enumerate([*SPECIAL.values(), *WORDS, BROKEN])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    model = random_bert(len(ids), CLASSES, seed, num_hidden_layers=3, initializer_range=0.3)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_TOKENS, **SPECIAL)
    _balance(model, wrapped)
    if broken:
        with torch.no_grad():
            model.get_input_embeddings().weight[ids[BROKEN]] = float("nan")
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


def random_bert(vocabulary: int, names: Sequence[str], seed: int, **config: Any) -> Any:
    """A random BERT of 16 dimensions with these outputs, in eval mode."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForSequenceClassification(
            BertConfig(
                vocab_size=vocabulary,
                hidden_size=16,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=MAX_TOKENS,
                id2label=dict(enumerate(names)),
                label2id={name: index for index, name in enumerate(names)},
                **config,
            )
        ).eval()


def _balance(model: Any, tokenizer: Any) -> None:
    """Shift the classifier's bias so that it finds either class in half of the texts."""
    import torch

    texts = [row["text"] for row in make_rows(40, seed=99)]
    with torch.no_grad():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        model.classifier.bias[0] += (logits[:, 1] - logits[:, 0]).median()


def make_rows(count: int, seed: int = 0) -> list[Row]:
    """Make so many different short texts with ids, labels and a topic."""
    rng = random.Random(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[" ".join(rng.choices(WORDS, k=rng.randint(4, 12)))] = None
    return [
        {"id": f"r{index}", "text": text, "label": rng.randrange(2), "topic": rng.choice(("drama", "comedy"))}
        for index, text in enumerate(texts)
    ]


def write_parquet(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows as one Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def write_csv(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows as one CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def audit_dict(model: Path, corpus: Path, warehouse: Path, /, **sections: dict[str, Any]) -> dict[str, Any]:
    """Lay out an audit as plain JSON; `sections` are merged into method, runtime, corpus and so on."""
    data: dict[str, Any] = {
        "name": "tiny",
        "model": {"id": str(model)},
        "corpus": {"path": str(corpus), "text": "text", "label": "label", "id": "id"},
        "runtime": {"shard_documents": 8, "threads": 1},
        "warehouse": str(warehouse),
    }
    for name, values in sections.items():
        data[name] = {**data.get(name, {}), **values}
    return data


def audit_config(model: Path, corpus: Path, warehouse: Path, /, **sections: dict[str, Any]) -> AuditConfig:
    """Validate what `audit_dict` lays out."""
    return parse_config(audit_dict(model, corpus, warehouse, **sections))


def shard_times(warehouse: Path) -> dict[str, int]:
    """Time of writing (ns) of every shard manifest, by its path in the warehouse."""
    found = sorted(
        [
            *warehouse.glob("attributions/*/manifest-*.json"),
            *warehouse.glob("evaluations/*/manifest-*.json"),
        ]
    )
    return {str(path.relative_to(warehouse)): path.stat().st_mtime_ns for path in found}


def run_manifest(warehouse: Path, run_id: str) -> dict[str, Any]:
    """Read a run's manifest."""
    content: dict[str, Any] = json.loads((warehouse / "runs" / run_id / "manifest.json").read_text())
    return content


def select(warehouse: Path, sql: str, run: str = "latest") -> list[tuple[Any, ...]]:
    """Answer a SELECT as `calig query` does."""
    from calig.warehouse.query import query

    return query(Warehouse.open(warehouse, create=False), sql, run).rows


_DIFFERS = {
    *("run_id", "started", "finished", "attributed", "reused", "attribution_seconds", "config", "timings"),
    *("model_id", "corpus_source", "own_block_passes", "own_seconds", "compared", "status"),
}
"""Columns that may differ between two runs with the same results; in the file, a status is that of when it was made."""


def tables(warehouse: Path, run_id: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables of a run, sorted, without its id, times and places."""
    content = {}
    with closing(duckdb.connect(warehouse / "calig.duckdb", read_only=True)) as connection:
        for table in TABLES:
            names = [row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall()]
            columns = ", ".join(f'"{name}"' for name in names if name not in _DIFFERS)
            content[table] = connection.execute(
                f"SELECT {columns} FROM {table} WHERE run_id = ? ORDER BY ALL", [run_id]
            ).fetchall()
    return content


def assert_same_tables(
    warehouse: Path, run_id: str, other: Path, other_run_id: str, tolerance: float = 1e-6
) -> None:
    """Compare all tables of two runs, floats within the tolerance, relative or absolute."""
    found, expected = tables(warehouse, run_id), tables(other, other_run_id)
    for table, rows in expected.items():
        assert len(found[table]) == len(rows), table
        for ours, theirs in zip(found[table], rows, strict=True):
            for value, wanted in zip(ours, theirs, strict=True):
                if isinstance(wanted, float):
                    assert math.isclose(value, wanted, rel_tol=tolerance, abs_tol=tolerance), (
                        table,
                        ours,
                        theirs,
                    )
                else:
                    assert value == wanted, (table, ours, theirs)
