"""Captum's layer integrated gradients at its defaults against calig, on the same real documents.

    python -m tests.benchmarks.captum [--documents N] [--length TOKENS] [--reference N] [--threads N] [--machine TEXT]

Needs `$CALIG_SHARED` (default `../shared`) with `models/minilm-sst2` and `corpora/sst2-dev.parquet`. Both explain the
predicted class at every depth with the pad baseline, in float32, documents sorted by length and batched alike. Captum
takes one call per depth and 50 Gauss–Legendre nodes; calig a tolerance of 1e-2 and a pilot's schedule, learnt on other
documents and timed apart. Errors are relative L2 errors of the token vector, against 127 Gauss–Patterson nodes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from captum.attr import LayerIntegratedGradients

from calig.attribution.explainer import Explainer
from calig.attribution.method import Method
from calig.attribution.schedule import PILOT_DOCUMENTS, Schedule
from calig.models.loading import Pretrained, load_pretrained
from calig.records import Attribution, Document, document_key

NODES, TOLERANCE, ROWS, BATCH = 50, 1e-2, 160, 8
RESULTS = Path(__file__).parent / "results"
Float = npt.NDArray[np.float32]


def captum_explain(pretrained: Pretrained, texts: list[str]) -> list[Float]:
    """LIG (L+1, T) per text, from Captum, in batches of texts of similar length."""
    model, tokenizer = pretrained.model, pretrained.tokenizer
    layers = [model.bert.embeddings, *model.bert.encoder.layer]

    def forward(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return model(input_ids=ids, attention_mask=mask).logits

    found: dict[int, Float] = {}
    order = sorted(range(len(texts)), key=lambda i: len(tokenizer(texts[i])["input_ids"]))
    for start in range(0, len(order), BATCH):
        members = order[start : start + BATCH]
        given = tokenizer(
            [texts[i] for i in members], padding=True, return_tensors="pt", return_special_tokens_mask=True
        )
        ids, mask = given["input_ids"], given["attention_mask"]
        baseline = ids.where(given["special_tokens_mask"].bool(), tokenizer.pad_token_id)
        with torch.no_grad():
            targets = forward(ids, mask).argmax(-1)
        depths = [
            LayerIntegratedGradients(forward, layer)
            .attribute(
                ids,
                baselines=baseline,
                target=targets,
                additional_forward_args=(mask,),
                n_steps=NODES,
                internal_batch_size=ROWS,
            )
            .sum(-1)
            .detach()
            .numpy()
            for layer in layers
        ]
        for row, i in enumerate(members):
            found[i] = np.stack([depth[row, : int(mask[row].sum())] for depth in depths])
    return [found[i] for i in range(len(texts))]


def relative_errors(found: list[Float], reference: list[Float]) -> npt.NDArray[np.float64]:
    """(documents, L+1) relative L2 error of the token vectors."""
    pairs = zip(found, reference, strict=True)
    return np.array([np.linalg.norm(f - r, axis=1) / np.linalg.norm(r, axis=1) for f, r in pairs], np.float64)


def summary(seconds: float, documents: int, errors: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 2),
        "documents_per_second": round(documents / seconds, 3),
        "median_true_error": float(np.median(errors)),
        "worst_true_error": float(errors.max()),
        "share_above_tolerance": float((errors > TOLERANCE).mean()),
    }


def run(shared: Path, documents: int, length: int, reference: int, machine: str) -> dict[str, Any]:
    """Run both, once each, and compare."""
    pretrained = load_pretrained(str(shared / "models" / "minilm-sst2"))
    corpus = pq.read_table(shared / "corpora" / "sst2-dev.parquet", columns=["text"])["text"].to_pylist()
    usable = sorted(
        (t for t in corpus if len(pretrained.tokenizer(t)["input_ids"]) <= length), key=document_key
    )
    pilot, texts = usable[:PILOT_DOCUMENTS], usable[PILOT_DOCUMENTS:][:documents]

    started = time.perf_counter()
    schedule = Explainer(pretrained, Method(tolerance=TOLERANCE)).pilot(
        [Document(document_key(text), text) for text in pilot]
    )
    pilot_seconds = time.perf_counter() - started
    explainer = Explainer(pretrained, Method(tolerance=TOLERANCE), schedule)
    explainer.explain(texts[:1])
    captum_explain(pretrained, texts[:1])

    started = time.perf_counter()
    ours: list[Attribution] = explainer.explain(texts)
    our_seconds = time.perf_counter() - started
    started = time.perf_counter()
    theirs = captum_explain(pretrained, texts)
    their_seconds = time.perf_counter() - started

    depth = explainer.depth
    fine = Method(rule="gauss-patterson", tolerance=0.999)
    frozen = Schedule.default(fine.rule, depth, fine.max_nodes).frozen(6)
    truth = [a.layer_ig for a in Explainer(pretrained, fine, frozen).explain(texts[:reference])]
    our_errors = relative_errors([a.layer_ig for a in ours[:reference]], truth)
    estimates = np.stack([a.error_estimate for a in ours[:reference]])
    tokens = [len(a.tokens) for a in ours]
    return {
        "machine": machine,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "transformers", "captum")},
        "model": "minilm-sst2 (BERT, 6 blocks of 384)",
        "documents": len(texts),
        "tokens": {"mean": float(np.mean(tokens)), "most": max(tokens)},
        "reference_documents": len(truth),
        "calig": {
            **summary(our_seconds, len(texts), our_errors),
            "block_forwards": float(np.mean([a.block_passes for a in ours])) + 2 * depth,
            "block_backwards": float(np.mean([a.block_passes for a in ours])),
            "converged_share": float(np.mean([a.converged for a in ours])),
            "understated_share": float((our_errors > estimates + 1e-4).mean()),
            "pilot_documents": len(pilot),
            "pilot_seconds": round(pilot_seconds, 2),
        },
        "captum": {
            **summary(their_seconds, len(texts), relative_errors(theirs[:reference], truth)),
            "block_forwards": NODES * depth * (depth + 1),
            "block_backwards": NODES * depth * (depth + 1) // 2,
        },
        "ratio": round(their_seconds / our_seconds, 2),
    }


def markdown(found: dict[str, Any]) -> str:
    """Lay the result out as a table with its circumstances."""
    ours, theirs = found["calig"], found["captum"]
    rows = [
        ("documents/s", "{documents_per_second:.2f}"),
        ("forward passes of a block, per document", "{block_forwards:.0f}"),
        ("backward passes of a block, per document", "{block_backwards:.0f}"),
        ("median true error", "{median_true_error:.1e}"),
        ("worst true error", "{worst_true_error:.1e}"),
        ("share of errors above 1e-2", "{share_above_tolerance:.1%}"),
    ]
    table = [f"| {name} | {form.format(**ours)} | {form.format(**theirs)} |" for name, form in rows]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return "\n".join(
        [
            "# calig against Captum",
            "",
            f"{found['documents']} sentences of sst2-dev ({found['tokens']['mean']:.0f} tokens on average, "
            f"{found['tokens']['most']} at most), {found['model']}, every depth, float32, {found['machine']}, "
            f"{found['threads']} thread(s), {versions}. calig at tolerance 1e-2 with a pilot's schedule "
            f"({ours['pilot_documents']} other documents, {ours['pilot_seconds']:.0f} s, not counted), and with "
            f"attention gradients; Captum at its default {NODES} nodes. "
            f"True errors: relative, against 127 nodes, on {found['reference_documents']} documents.",
            "",
            f"**calig is {found['ratio']:.1f} times as fast.**",
            "",
            "| | calig | Captum |",
            "|---|---|---|",
            *table,
            "",
            f"calig: {ours['converged_share']:.1%} of (document, depth) pairs converged; the stated error was below "
            f"the true one in {ours['understated_share']:.1%}.",
            "",
        ]
    )


def main() -> None:
    """Parse the arguments, run, print, and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=64)
    parser.add_argument("--length", type=int, default=64, help="longest document, in tokens")
    parser.add_argument("--reference", type=int, default=16, help="documents compared to 127 nodes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--machine", default=f"{os.cpu_count()} CPU cores")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    shared = Path(os.environ.get("CALIG_SHARED", "../shared"))
    found = run(shared, asked.documents, asked.length, asked.reference, asked.machine)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "captum.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "captum.md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
