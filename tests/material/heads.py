"""Small models of every kind of head, and audits of them through the stages, without Prefect."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from calig import stages
from calig.config import AuditConfig, parse_config
from calig.warehouse.layout import Warehouse
from tests.material.audits import begin
from tests.material.tiny import WORDS, Row, audit_dict, random_bert, save_model, select, write_parquet

Item = str | tuple[str, str]


def save_head(folder: Path, names: Sequence[str], problem: str | None = None, seed: int = 0) -> Path:
    """Save a random BERT of 2 blocks with these outputs, which lie about zero, and the tests' tokenizer."""
    save_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = {"num_hidden_layers": 2, "initializer_range": 0.4, "problem_type": problem}
    model = random_bert(len(tokenizer), names, seed, **config)
    with torch.no_grad():
        rows = tokenizer([" ".join(item) for item in pairs(40, seed=99)], padding=True, return_tensors="pt")
        model.classifier.bias -= model(**rows).logits.median(dim=0).values
    model.save_pretrained(folder)
    return folder


def pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Different pairs of short texts; the words of each have an order of their own."""
    rng = random.Random(seed)
    return [
        tuple(" ".join(rng.choices(WORDS, k=rng.randint(2, 8))) for _ in range(2))  # type: ignore[misc]
        for _ in range(count)
    ]


@dataclass(frozen=True)
class HandRun:
    """The model of a folder run by hand, in float64, text by text: the second way to its answers."""

    folder: Path

    @cached_property
    def model(self) -> Any:
        return AutoModelForSequenceClassification.from_pretrained(self.folder).double().eval()

    @cached_property
    def tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self.folder)

    def logits(self, item: Item, baseline: bool = False) -> np.ndarray:
        """Outputs at the input, or with every token of a text replaced by the pad token."""
        texts = (item,) if isinstance(item, str) else item
        # in lists: given alone, an empty second text counts as none
        coded = self.tokenizer(
            *([text] for text in texts), return_special_tokens_mask=True, return_tensors="pt"
        )
        special = coded.pop("special_tokens_mask").bool()
        if baseline:
            coded["input_ids"] = torch.where(special, coded["input_ids"], self.tokenizer.pad_token_id)
        with torch.no_grad():
            found: np.ndarray = self.model(**coded).logits[0].numpy()
        return found


@dataclass(frozen=True)
class Audit:
    """A finished audit: its warehouse, run, report, and the model run by hand."""

    run: stages.Run
    page: str
    hand: HandRun

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return select(self.run.warehouse.root, sql)


def audit(
    model: Path,
    rows: Sequence[Row],
    folder: Path,
    columns: Row | None = None,
    head: str = "auto",
    **sections: Row,
) -> Audit:
    """Audit a model on rows through all stages; `columns` names those of the corpus that are called otherwise."""
    corpus = write_parquet(folder / "corpus.parquet", rows)
    sections["model"] = {"id": str(model), "head": head}
    data = audit_dict(model, corpus, folder / "warehouse")
    sections["corpus"] = {**data["corpus"], **(columns or {})}
    config = parse_config({**data, **sections})
    run = run_stages(config)
    return Audit(run, stages.write_report(run).read_text("utf-8"), HandRun(model))


def run_stages(config: AuditConfig) -> stages.Run:
    """Everything up to the tables."""
    stages.precheck(Warehouse.open(config.warehouse), config)
    run = begin(config)
    done = sum(stages.attribute_shard(run, doc_ids).documents for doc_ids in stages.missing_shards(run))
    stages.aggregate_run(run, done, {})
    outcomes = stages.check_gates(run)
    stages.complete_run(run)
    stages.enforce_gates(run, outcomes)
    return run
