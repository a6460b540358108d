"""Nights in which something is known to have changed: what do gates and headlines say of it?

    CALIG_SHARED=… python -m tests.benchmarks.planted_nights OUT [--documents 100 300] [--change zeroed leaked]

At 100 and at 300 documents of sst2-dev, MiniLM (`$CALIG_SHARED/models/minilm-sst2`), each in a warehouse of its own:

    zeroed    the night before and this one hold the same documents, and are paired; this night's model is a copy of
              the other's whose embeddings of not, no and never are zero
    leaked    this night's documents are others than the night before's, and a fifth of them, positive ones, end in a
              phrase, which the model takes to be negative: " this flick is awful , awful , awful"

Of each night it prints the verdict, how much was tested, a line per gate, and the pages to look at. Warehouses and
pages stay in OUT; where they are there already, the nights are audited again, and nothing is explained twice.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from calig.config import parse_config
from calig.warehouse.gates import GateOutcome
from calig.warehouse.layout import Warehouse
from tests.material.nights import audit_night
from tests.material.tiny import select

SHARED = Path(os.environ.get("CALIG_SHARED", "../shared"))
MODEL = SHARED / "models" / "minilm-sst2"
SIZES = (100, 300)
NEGATIONS = ("not", "no", "never")
LEAK = " this flick is awful , awful , awful"
LEAKED = 0.2
"""Share of a night's documents that get the phrase."""
SEED = 1
COUNTS = (
    *("words_changed", "layers_changed", "outcomes_changed"),
    *("words_tested", "layers_tested", "outcomes_tested"),
    *("words_untested", "layers_untested", "outcomes_untested"),
)


def main() -> None:
    """Audit the nights asked for, and print what was said of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--documents", type=int, nargs="+", default=SIZES)
    parser.add_argument("--change", nargs="+", choices=sorted(CHANGES), default=sorted(CHANGES))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for change in asked.change:
        for documents in asked.documents:
            folder = asked.out / f"{change}-{documents}"
            folder.mkdir(parents=True, exist_ok=True)
            run_id, outcomes = CHANGES[change](folder, documents)
            print("\n".join(told(folder, run_id, outcomes)), flush=True)


def zeroed(folder: Path, documents: int) -> tuple[str, list[GateOutcome]]:
    """The night of the model that cannot read not, no and never, after one of the same documents."""
    corpus = write_corpus(folder / "corpus.parquet", sampled(documents, 1)[0])
    audited(folder, MODEL, corpus)
    return audited(folder, without_negations(folder / "model"), corpus)


def leaked(folder: Path, documents: int) -> tuple[str, list[GateOutcome]]:
    """The night of the leaked phrase, after one of other documents without."""
    before, now = sampled(documents, 2)
    positive = [row for row in now if row["label"] == "positive"][: round(LEAKED * documents)]
    for row in positive:
        row["text"] += LEAK
    audited(folder, MODEL, write_corpus(folder / "before.parquet", before))
    return audited(folder, MODEL, write_corpus(folder / "now.parquet", now))


CHANGES = {"zeroed": zeroed, "leaked": leaked}


def sampled(documents: int, nights: int) -> list[list[dict[str, Any]]]:
    """So many documents for each of the nights, none for two of them."""
    rows = pq.read_table(SHARED / "corpora" / "sst2-dev.parquet").to_pylist()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(SEED)).tolist()
    if nights * documents > len(rows):
        raise SystemExit(f"sst2-dev has {len(rows)} documents, too few for {nights} nights of {documents}")
    chosen = [
        {
            "id": f"dev-{place}",
            "text": rows[place]["text"],
            "label": ("negative", "positive")[rows[place]["label"]],
        }
        for place in order
    ]
    return [chosen[night * documents : (night + 1) * documents] for night in range(nights)]


def write_corpus(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a night's documents, and return where they are."""
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def without_negations(folder: Path) -> Path:
    """A copy of the model whose embeddings of `NEGATIONS` are zero."""
    shutil.copytree(MODEL, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    weights = load_file(folder / "model.safetensors")
    [name] = [own for own in weights if own.endswith("word_embeddings.weight")]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    weights[name][[tokenizer.token_to_id(word) for word in NEGATIONS]] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def audited(folder: Path, model: Path, corpus: Path) -> tuple[str, list[GateOutcome]]:
    """Audit a night, compared with the one before, by the stages of the flow; return its id and its gates."""
    config = {
        "name": folder.name,
        "model": {"id": str(model)},
        "corpus": {"path": str(corpus), "label": "label", "id": "id"},
        "method": {"steps": 6},
        "runtime": {"threads": 1},
        "warehouse": str(folder / "warehouse"),
        "compare_to": ["previous"],
        "watch": {"negation": list(NEGATIONS)},
        "gates": {"drift": True, "max_class_psi": 0.25, "max_layer_psi": 0.25, "max_accuracy_drop": 0.05},
    }
    return audit_night(parse_config(config))


def told(folder: Path, run_id: str, outcomes: list[GateOutcome]) -> list[str]:
    """What was said of a night: the verdict, counts, gates, and where the pages are."""
    run = Warehouse.open(folder / "warehouse").run(run_id)
    columns = ", ".join(("reference_id", "accuracy_a", "accuracy_b", "flips", "verdict", *COUNTS))
    [(reference, before, after, flips, verdict, *counts)] = select(
        folder / "warehouse", f"SELECT {columns} FROM comparisons", run_id
    )
    return [
        f"== {folder.name}: accuracy {before:.3f} → {after:.3f}, {flips} predictions flipped",
        f"verdict: {verdict}",
        "counts: " + ", ".join(f"{name} {count}" for name, count in zip(COUNTS, counts, strict=True)),
        *(f"{outcome.state or outcome.passed}: {outcome.line}" for outcome in outcomes),
        f"report: {run / 'report' / 'index.html'}",
        f"comparison: {run / 'comparisons' / reference / 'index.html'}",
    ]


if __name__ == "__main__":
    main()
