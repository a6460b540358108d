"""Captum's layer integrated gradients against calig, on the same documents, in one run.

    python -m tests.benchmarks.captum [--documents N] [--device D] [--dtype T] [--threads N] [--machine TEXT] [--quick]

Needs `$CALIG_SHARED` (default `../shared`) with `models/minilm-sst2`, `corpora/sst2-dev.parquet` and
`corpora/movie_reviews-test.parquet`. Both explain the predicted class at every depth with the pad baseline, documents
sorted by length and batched alike; calig adds attention gradients, at tolerance 1e-2 with a pilot's schedule, learnt on
other documents and timed apart. Captum is run (a) as people use it: one call per depth, 50 Gauss–Legendre nodes; and
(b) at the fewest nodes, of midpoints or Gauss–Legendre, whose worst true error on these documents is no more than
ours. (b)'s nodes are found on the documents that ask most of calig, by calig's own fixed steps, which give Captum's
numbers to 1e-12. True errors are relative L2 errors of the token vector, against 96 Gauss–Legendre nodes.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from captum.attr import LayerIntegratedGradients
from transformers import BertConfig, BertForSequenceClassification

from calig.attribution.explainer import Explainer
from calig.attribution.method import Method
from calig.attribution.schedule import PILOT_DOCUMENTS, Schedule
from calig.models.loading import DTYPES, Pretrained, load_pretrained
from calig.records import Attribution, Document, document_key

NODES, TOLERANCE, ROWS, BATCH, REFERENCE = 50, 1e-2, 160, 8, 96
CANDIDATES = {
    "riemann_middle": ("midpoint", (12, 14, 16, 18, 20, 22, 24, 26, 28, 32, 36, 40, 48, 64, 80, 96)),
    "gausslegendre": ("gauss-legendre", (10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 40, 50, 64, 80)),
}
RESULTS = Path(__file__).parent / "results"
Float = npt.NDArray[np.float32]


def captum_explain(
    pretrained: Pretrained, texts: list[str], method: str, nodes: int, longest: int
) -> list[Float]:
    """LIG (L+1, T) per text, from Captum, in batches of texts of similar length."""
    model, tokenizer = pretrained.model, pretrained.tokenizer
    layers = [model.bert.embeddings, *model.bert.encoder.layer]

    def forward(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return model(input_ids=ids, attention_mask=mask).logits

    found: dict[int, Float] = {}
    cut = {"truncation": True, "max_length": longest}
    order = sorted(range(len(texts)), key=lambda i: len(tokenizer(texts[i], **cut)["input_ids"]))
    for start in range(0, len(order), BATCH):
        members = order[start : start + BATCH]
        given = tokenizer(
            [texts[i] for i in members],
            padding=True,
            return_tensors="pt",
            return_special_tokens_mask=True,
            **cut,
        ).to(model.device)
        ids, mask = given["input_ids"], given["attention_mask"]
        baseline = ids.where(given["special_tokens_mask"].bool(), tokenizer.pad_token_id)
        with torch.no_grad():
            targets = forward(ids, mask).argmax(-1)
        depths = []
        for layer in layers:
            lig = LayerIntegratedGradients(forward, layer).attribute(
                ids,
                baselines=baseline,
                target=targets,
                additional_forward_args=(mask,),
                n_steps=nodes,
                method=method,
                internal_batch_size=ROWS,
            )
            depths.append(lig.sum(-1).detach().float().cpu().numpy())
        for row, i in enumerate(members):
            found[i] = np.stack([depth[row, : int(mask[row].sum())] for depth in depths])
    return [found[i] for i in range(len(texts))]


@dataclass
class Spent:
    """What a run took: seconds, forward passes of a block per document, and memory at its peak."""

    seconds: float = 0.0
    forwards: float = 0.0
    peak_bytes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)


@contextmanager
def measured(pretrained: Pretrained, documents: int) -> Iterator[Spent]:
    """Time a run; watch its memory; count the rows that pass each block forward."""
    spent, rows = Spent(), [0]
    cuda = pretrained.model.device.type == "cuda"

    def watch() -> None:
        while not spent._stop.wait(0.05):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            spent.peak_bytes = max(spent.peak_bytes, pages * os.sysconf("SC_PAGE_SIZE"))

    def count(_module: Any, args: Any, kwargs: Any) -> None:
        rows[0] += len(args[0] if args else kwargs["hidden_states"])

    hooks = [
        block.register_forward_pre_hook(count, with_kwargs=True)
        for block in pretrained.model.bert.encoder.layer
    ]
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    started = time.perf_counter()
    try:
        yield spent
    finally:
        if cuda:
            torch.cuda.synchronize()
            spent.peak_bytes = torch.cuda.max_memory_allocated()
        spent.seconds = time.perf_counter() - started
        spent.forwards = rows[0] / documents
        spent._stop.set()
        watcher.join()
        for hook in hooks:
            hook.remove()


def flops(pretrained: Pretrained, found: list[Attribution]) -> float:
    """What our block passes need: forward and backward, real tokens, the last block's unread rows left out.

    A block's linear maps take 24·D² per token, forward, and as much backward, for frozen weights; attention 4·T·D
    forward and 8·T·D backward. The last block makes keys and values for all tokens, 4·D², and the rest for one.
    """
    config = pretrained.model.config
    width, depth = config.hidden_size, config.num_hidden_layers
    ratio = config.intermediate_size / width
    total = 0.0
    for a in found:
        tokens = len(a.tokens)
        whole = 2 * (8 + 4 * ratio) * width**2 * tokens + 12 * tokens**2 * width
        last = 2 * 4 * width**2 * tokens + 2 * (4 + 4 * ratio) * width**2 + 12 * tokens * width
        own = a.nodes - 2
        total += 2 * depth * whole  # both ends
        total += sum(int(n) * ((depth - l - 1) * whole + last) for l, n in enumerate(own[:depth]))  # noqa: E741
    return total


def peak(pretrained: Pretrained, rows: int) -> float:
    """FLOP/s of matrix products of the shapes of a block's linear maps, with `rows` tokens, at their best of five."""
    config, weight = pretrained.model.config, pretrained.model.bert.encoder.layer[0].output.dense.weight
    width, inner = config.hidden_size, config.intermediate_size
    work = time_taken = 0.0
    for a, b, times in ((width, width, 4), (width, inner, 1), (inner, width, 1)):
        left = torch.randn(rows, a, device=weight.device, dtype=weight.dtype)
        right = torch.randn(b, a, device=weight.device, dtype=weight.dtype)
        best = float("inf")
        for _ in range(6):
            if weight.device.type == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            for _ in range(5):
                torch.nn.functional.linear(left, right)
            if weight.device.type == "cuda":
                torch.cuda.synchronize()
            best = min(best, (time.perf_counter() - started) / 5)
        work += times * 2 * rows * a * b
        time_taken += times * best
    return work / time_taken


def relative_errors(found: list[Float], truth: list[Float]) -> npt.NDArray[np.float64]:
    """(documents, L+1) relative L2 error of the token vectors."""
    pairs = zip(found, truth, strict=True)
    return np.array([np.linalg.norm(f - r, axis=1) / np.linalg.norm(r, axis=1) for f, r in pairs], np.float64)


def explain(
    pretrained: Pretrained, texts: list[str], schedule: Schedule | None = None, **method: Any
) -> list[Attribution]:
    return Explainer(pretrained, Method(**method), schedule).explain(texts)


def ligs(found: list[Attribution]) -> list[Float]:
    return [a.layer_ig for a in found]


def summary(spent: Spent, documents: int, errors: npt.NDArray[np.float64] | None = None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "seconds": round(spent.seconds, 2),
        "documents_per_second": round(documents / spent.seconds, 3),
        "block_forwards": round(spent.forwards, 1),
        "peak_mib": spent.peak_bytes // 2**20,
    }
    if errors is not None:
        row |= {
            "median_true_error": float(np.median(errors)),
            "worst_true_error": float(errors.max()),
            "share_above_tolerance": float((errors > TOLERANCE).mean()),
        }
    return row


def cheapest(pretrained: Pretrained, texts: list[str], truth: list[Float], allowed: float) -> tuple[str, int]:
    """Captum's method and fewest nodes whose worst true error on these documents is within `allowed`."""
    options = []
    for method, (rule, counts) in CANDIDATES.items():
        for nodes in counts:
            if options and nodes >= min(n for n, _ in options):
                break
            if (
                relative_errors(ligs(explain(pretrained, texts, rule=rule, steps=nodes)), truth).max()
                <= allowed
            ):
                options.append((nodes, method))
                break
    nodes, method = min(options)
    return method, nodes


def headline(
    pretrained: Pretrained, texts: list[str], pilot: list[str], progress: Callable[[str], None]
) -> dict[str, Any]:
    """Calig, Captum (a) and Captum (b) on the same sentences, with true errors."""
    depth = pretrained.model.config.num_hidden_layers
    started = time.perf_counter()
    schedule = Explainer(pretrained, Method(tolerance=TOLERANCE)).pilot(
        [Document(document_key(text), text) for text in pilot]
    )
    pilot_seconds = time.perf_counter() - started
    progress(f"pilot {pilot_seconds:.0f} s")
    explain(pretrained, texts[:2], schedule)
    captum_explain(pretrained, texts[:2], "gausslegendre", 4, 512)
    with measured(pretrained, len(texts)) as ours:
        found = explain(pretrained, texts, schedule, tolerance=TOLERANCE)
    progress(f"calig {ours.seconds:.0f} s")
    with measured(pretrained, len(texts)) as usual:
        theirs = captum_explain(pretrained, texts, "gausslegendre", NODES, 512)
    progress(f"captum (a) {usual.seconds:.0f} s")
    truth = ligs(explain(pretrained, texts, rule="gauss-legendre", steps=REFERENCE))
    errors = relative_errors(ligs(found), truth)
    hardest = np.argsort([-int(a.nodes.sum()) for a in found])[: max(8, len(texts) // 8)]
    method, nodes = cheapest(
        pretrained, [texts[i] for i in hardest], [truth[i] for i in hardest], float(errors.max())
    )
    progress(f"captum (b) is {method} with {nodes}")
    with measured(pretrained, len(texts)) as lean:
        leanest = captum_explain(pretrained, texts, method, nodes, 512)
    estimates = np.stack([a.error_estimate for a in found])
    converged = np.stack([a.converged for a in found])
    own = [int(n) for n in np.sum([a.nodes - 2 for a in found], axis=0)]
    calig = summary(ours, len(texts), errors) | {
        "block_backwards": sum(n * (depth - l) for l, n in enumerate(own)) / len(texts) + 2 * depth,  # noqa: E741
        "mean_nodes": [round(float(n), 1) for n in np.mean([a.nodes for a in found], axis=0)],
        "converged_share": float(converged.mean()),
        "converged_within_tolerance": float((errors[converged] <= TOLERANCE).mean()),
        "understated_share": float((errors > estimates + 1e-4).mean()),
        "flop_utilisation": flops(pretrained, found)
        / ours.seconds
        / peak(pretrained, Explainer(pretrained).engine.passes.token_budget),
        "pilot_documents": len(pilot),
        "pilot_seconds": round(pilot_seconds, 1),
    }
    rows = {"calig": calig}
    for name, spent, result, count, rule in (
        ("captum (a)", usual, theirs, NODES, "gausslegendre"),
        ("captum (b)", lean, leanest, nodes, method),
    ):
        rows[name] = summary(spent, len(texts), relative_errors(result, truth)) | {
            "block_backwards": count * depth * (depth + 1) // 2,
            "method": rule,
            "nodes": count,
        }
    tokens = [len(a.tokens) for a in found]
    return {
        "documents": len(texts),
        "tokens": {"mean": float(np.mean(tokens)), "most": max(tokens)},
        "rows": rows,
        "ratios": {name: round(rows[name]["seconds"] / calig["seconds"], 2) for name in list(rows)[1:]},
        "pass_ratios": {
            name: round(
                (rows[name]["block_forwards"] + rows[name]["block_backwards"])
                / (calig["block_forwards"] + calig["block_backwards"]),
                2,
            )
            for name in list(rows)[1:]
        },
    }


def lengths(
    pretrained: Pretrained, long: list[str], counts: dict[int, int], captum: bool
) -> list[dict[str, Any]]:
    """Speed, utilisation and memory at each length in tokens, on long reviews cut to it."""
    rows = []
    for longest, documents in counts.items():
        texts = long[:documents]
        explain(pretrained, texts[:1], max_length=longest)
        with measured(pretrained, documents) as spent:
            found = explain(pretrained, texts, max_length=longest)
        budget = max(longest, Explainer(pretrained).engine.passes.token_budget)
        row = {"tokens": longest, "documents": documents, **summary(spent, documents)} | {
            "converged_share": float(np.mean([a.converged for a in found])),
            "flop_utilisation": flops(pretrained, found) / spent.seconds / peak(pretrained, budget),
        }
        if captum:
            few = texts[: max(1, documents // 4)]
            with measured(pretrained, len(few)) as theirs:
                captum_explain(pretrained, few, "gausslegendre", NODES, longest)
            with measured(pretrained, len(few)) as again:
                explain(pretrained, few, max_length=longest)
            row["captum_ratio"] = round(theirs.seconds / again.seconds, 2)
        rows.append(row)
    return rows


def base_shaped(pretrained: Pretrained) -> Pretrained:
    """A BERT-base-shaped classifier (12 blocks of 768) with random weights, and the other's tokenizer."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=pretrained.model.config.vocab_size, num_labels=2, attn_implementation="sdpa"
    )
    like = pretrained.model.bert.embeddings.word_embeddings.weight
    model = BertForSequenceClassification(config).to(like.device, like.dtype).eval().requires_grad_(False)
    return Pretrained(model, pretrained.tokenizer, ("0", "1"), None)


def run(shared: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Everything, in one process."""
    started = time.perf_counter()

    def progress(text: str) -> None:
        print(f"[{time.perf_counter() - started:6.0f} s] {text}", flush=True)

    pretrained = load_pretrained(
        str(shared / "models" / "minilm-sst2"), device=asked.device, dtype=asked.dtype
    )
    corpus = pq.read_table(shared / "corpora" / "sst2-dev.parquet", columns=["text"])["text"].to_pylist()
    usable = sorted(
        (t for t in corpus if len(pretrained.tokenizer(t)["input_ids"]) <= asked.length), key=document_key
    )
    long = pq.read_table(shared / "corpora" / "movie_reviews-test.parquet", columns=["text"])[
        "text"
    ].to_pylist()
    long = [t for t in long if len(t) > 3000]
    found: dict[str, Any] = {
        "machine": asked.machine,
        "device": asked.device,
        "dtype": asked.dtype,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "transformers", "captum")},
        "minilm": headline(
            pretrained, usable[PILOT_DOCUMENTS:][: asked.documents], usable[:PILOT_DOCUMENTS], progress
        ),
    }
    scale = 16 if asked.device.startswith("cuda") else 1
    counts = {32: 48 * scale, 128: 12 * scale, 512: 4 * scale}
    found["lengths"] = lengths(pretrained, long, counts, captum=not asked.quick)
    progress("lengths, minilm")
    if not asked.quick:
        found["growth"] = []
        for documents in (asked.documents // 4, asked.documents // 2, asked.documents):
            with measured(pretrained, documents) as spent:
                explain(pretrained, usable[PILOT_DOCUMENTS:][:documents])
            found["growth"].append({"documents": documents, **summary(spent, documents)})
        progress("documents, minilm")
        found["nodes"] = []
        for nodes in (16, 64, 256):
            with measured(pretrained, 32) as spent:
                explain(pretrained, usable[PILOT_DOCUMENTS:][:32], steps=nodes)
            found["nodes"].append({"nodes": nodes, **summary(spent, 32)})
        progress("nodes, minilm")
        counts = {32: 12 * scale, 128: 4 * scale, 512: 1 * scale}
        found["base"] = lengths(base_shaped(pretrained), long, counts, captum=False)
        progress("lengths, BERT-base shape")
    return found


def table(names: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (names, ["---"] * len(names), *rows)]


def by_length(rows: list[dict[str, Any]]) -> list[str]:
    names = ["tokens", "documents", "documents/s", "FLOP utilisation", "peak MiB"]
    ratio = "captum_ratio" in rows[0]
    cells = [
        [
            str(row["tokens"]),
            str(row["documents"]),
            f"{row['documents_per_second']:.2f}",
            f"{row['flop_utilisation']:.0%}",
            str(row["peak_mib"]),
            *([f"{row['captum_ratio']:.1f} ×"] if ratio else []),
        ]
        for row in rows
    ]
    return table([*names, *(["Captum (a) takes"] if ratio else [])], cells)


def markdown(found: dict[str, Any]) -> str:
    """Lay the result out as tables with their circumstances."""
    main = found["minilm"]
    rows, calig = main["rows"], main["rows"]["calig"]
    lean = rows["captum (b)"]
    lines = [
        ("documents/s", "{documents_per_second:.2f}"),
        ("forward passes of a block, per document", "{block_forwards:.0f}"),
        ("backward passes of a block, per document", "{block_backwards:.0f}"),
        ("median true error", "{median_true_error:.1e}"),
        ("worst true error", "{worst_true_error:.1e}"),
        ("share of errors above 1e-2", "{share_above_tolerance:.2%}"),
        ("peak memory, MiB", "{peak_mib}"),
    ]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    text = [
        "# calig against Captum",
        "",
        f"{main['documents']} sentences of sst2-dev ({main['tokens']['mean']:.0f} tokens on average, "
        f"{main['tokens']['most']} at most), minilm-sst2 (BERT, 6 blocks of 384), every depth, {found['dtype']}, "
        f"{found['machine']}, {found['threads']} thread(s), {versions}. calig at tolerance 1e-2 and with attention "
        f"gradients, after a pilot of {calig['pilot_documents']} other documents ({calig['pilot_seconds']:.0f} s, not "
        f"counted). Captum (a): its defaults, {NODES} Gauss–Legendre nodes; (b): {lean['method']} with {lean['nodes']} "
        f"nodes, the fewest with which its worst error is no more than ours. True errors: relative, against "
        f"{REFERENCE} Gauss–Legendre nodes.",
        "",
        f"**{main['ratios']['captum (a)']:.1f} times as fast as (a), {main['ratios']['captum (b)']:.1f} times as fast "
        f"as (b).** By block passes alone it would be {main['pass_ratios']['captum (a)']:.1f} and "
        f"{main['pass_ratios']['captum (b)']:.1f}; the rest is batching, and a last block that is run for one row.",
        "",
        *table(
            ["", *rows],
            [[name, *(form.format(**row) for row in rows.values())] for name, form in lines],
        ),
        "",
        f"Of calig's (document, depth) pairs {calig['converged_share']:.2%} converged, and "
        f"{calig['converged_within_tolerance']:.2%} of those are within the tolerance; the stated error was below the "
        f"true one in {calig['understated_share']:.2%}. Nodes per depth, both ends included: "
        f"{', '.join(map(str, calig['mean_nodes']))}. FLOP utilisation {calig['flop_utilisation']:.0%} of the measured "
        "peak of matrix products.",
        "",
        "## Length (minilm-sst2, movie reviews cut to it, no pilot)",
        "",
        *by_length(found["lengths"]),
        "",
    ]
    if "growth" in found:
        text += [
            "## Documents (minilm-sst2, sst2-dev, no pilot)",
            "",
            *table(
                ["documents", "documents/s", "peak MiB"],
                [
                    [str(r["documents"]), f"{r['documents_per_second']:.2f}", str(r["peak_mib"])]
                    for r in found["growth"]
                ],
            ),
            "",
            "## Nodes (minilm-sst2, 32 sentences of sst2-dev, so many at every depth)",
            "",
            *table(
                ["nodes", "documents/s", "peak MiB"],
                [
                    [str(r["nodes"]), f"{r['documents_per_second']:.2f}", str(r["peak_mib"])]
                    for r in found["nodes"]
                ],
            ),
            "",
            "## BERT-base shape (12 blocks of 768; random weights, nearly linear, so for speed and memory alone)",
            "",
            *by_length(found["base"]),
            "",
        ]
    return "\n".join(text)


def main() -> None:
    """Parse the arguments, run, print, and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=256)
    parser.add_argument("--length", type=int, default=64, help="longest sentence, in tokens")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--machine", default=f"{os.cpu_count()} CPU cores")
    parser.add_argument("--quick", action="store_true", help="the comparison and our own lengths alone")
    parser.add_argument("--name", default="captum", help="stem of the files of results")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found = run(Path(os.environ.get("CALIG_SHARED", "../shared")), asked)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{asked.name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / f"{asked.name}.md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
