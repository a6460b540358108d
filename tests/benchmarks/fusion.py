"""How should depths and attention gradients be fused? Candidates on development data, before any test split is read.

    python -m tests.benchmarks.fusion [sst2 hausa toxic movies cifar10] [--documents N] [--device D]

Needs models and corpora under $CALIG_SHARED: sst2-dev, afrisenti-hau-dev, toxic_spans-train (comments rightly flagged),
movie_reviews-train (512 tokens) and cifar10-train. Documents are drawn by a seed. A candidate is a formula over what
one explanation gives: LIG at every depth, attention gradients at the input and along the path (of H heads, summed: in
logits), A ⊙ ∇A or ∇A alone; or an explanation with another baseline or output. AOPC comprehensiveness by deletion and
by mask for texts, perturbation AUC for images, patches set to zero; with the paired difference to `agreement`, λ = 0.5,
and its 95 % interval.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch

from calig.attribution.explainer import Explainer
from calig.attribution.fusion import agreement, column, depth_weights, directions, rollout, trace
from calig.attribution.method import Method
from calig.attribution.passes import numbers
from calig.evaluation.faithfulness import faithfulness, perturbation
from calig.evaluation.own import attention_maps
from calig.evaluation.subject import Case, Subject
from calig.models.loading import load_pretrained
from calig.records import Attribution, Document, document_key, image_key
from calig.warehouse.statistics import LOWER_IS_BETTER, paired

RESULTS = Path(__file__).parent / "results"
CORPORA = {
    "sst2": ("minilm-sst2", "sst2-dev"),
    "hausa": ("xlmr-afrisenti", "afrisenti-hau-dev"),
    "toxic": ("minilm-toxic", "toxic_spans-train"),
    "movies": ("minilm-sst2", "movie_reviews-train"),
    "cifar10": ("vit-mae-cifar10", "cifar10-train"),
}
SEED = 1
REFERENCE = "agreement, λ 0.5"
OTHER_METHODS = {
    "images": {"baseline mean": {"baseline": "mean"}, "baseline blur": {"baseline": "blur"}},
    "texts": {"baseline mask": {"baseline": "mask"}, "baseline zero": {"baseline": "zero"}},
    "all": {"output margin": {"output": "margin"}},
}
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Parts:
    """What a candidate is made of: one explanation, Ā (L, T, T) and ∂y/∂A's mean over heads at the input, H."""

    item: Attribution
    maps: Float64
    read_out: Float64
    slopes: Float64


def candidates(parts: Parts) -> dict[str, Float64]:
    """Scores (T,) of every candidate that is a formula over one explanation."""
    a, special = parts.item, parts.item.is_special
    heads, blocks = a.heads, len(a.context)
    ig = a.layer_ig[:-1].astype(np.float64)
    path = heads * a.context.astype(np.float64)
    at_input, slope = heads * parts.maps.sum(axis=1), parts.slopes.sum(axis=1)
    map_norms = np.abs(parts.maps).sum(axis=(1, 2))
    agreed = depth_weights(a.layer_ig, a.context, special)[:, None]
    falling = (1 - np.arange(blocks) / blocks)[:, None]
    found = {
        f"agreement, λ {weight}": agreement(a.layer_ig, a.context, heads, special, weight).sum(axis=0)
        for weight in (0.0, 0.25, 0.5, 0.75)
    }
    found["agreement, gradients at the input, λ 0.5"] = (agreed * (ig + at_input)).sum(axis=0)
    found["logits, all depths alike, λ 0"] = ig.sum(axis=0)
    found["logits, all depths alike, λ 0.5"] = (ig + path).sum(axis=0)
    for power in (1, 2, 4):
        found[f"logits, depths weighted (1 − l/L)^{power}, λ 0.5"] = (falling**power * (ig + path)).sum(
            axis=0
        )
    found["column, λ 0 (LIG averaged over depths)"] = _column(a, a.context, a.context_norm, 0.0)
    for weight in (0.25, 0.5, 0.75):
        found[f"column, gradients along the path, λ {weight}"] = _column(a, a.context, a.context_norm, weight)
        found[f"column, gradients at the input, λ {weight}"] = _column(
            a, parts.maps.sum(axis=1), map_norms, weight
        )
    found["column, ∇A without A, at the input, λ 0.5"] = _column(
        a, slope, np.abs(parts.slopes).sum(axis=(1, 2)), 0.5
    )
    found["gradients along the path alone, column"] = _column(a, a.context, a.context_norm, 1.0)
    found["gradients at the input alone, column"] = _column(a, parts.maps.sum(axis=1), map_norms, 1.0)
    found["trace, λ 0.5"] = trace(a.layer_ig, parts.maps, 0.5)
    found["trace, λ 0.25"] = trace(a.layer_ig, parts.maps, 0.25)
    found["rollout, λ 0.25"] = rollout(a.layer_ig, parts.maps, parts.read_out, 0.25)
    for name, weights in judged(parts).items():
        for weight in (0.25, 0.5):
            found[f"{name}, λ {weight}"] = (weights[:, None] * ((1 - weight) * ig + weight * path)).sum(
                axis=0
            )
    found |= {f"LIG at depth {depth}": ig[depth] for depth in range(blocks)}
    return {name: np.asarray(scores, dtype=np.float64) for name, scores in found.items()}


def judged(parts: Parts) -> dict[str, Float64]:
    """Other weights of depths (L,), of sum 1, that the document itself gives: by another judge, or by cancellation."""
    a = parts.item
    content = ~a.is_special
    ig = a.layer_ig[:-1].astype(np.float64)
    unit = directions(ig[:, content])
    consensus = np.linalg.svd(unit)[2][0]
    consensus = consensus * np.sign((unit @ consensus).sum() or 1.0)
    gross = np.abs(ig).sum(axis=1)
    net = np.divide(np.abs(ig.sum(axis=1)), gross, out=np.zeros_like(gross), where=gross > 0)
    zeroth = np.maximum(unit @ unit[0], 0)
    mean = np.maximum(unit @ directions(unit.sum(axis=0)), 0)
    given = np.maximum(unit @ directions(a.context[:, content].astype(np.float64).sum(axis=0)), 0)
    others = unit @ unit.T - np.eye(len(unit))
    found = {
        "judge: depth 0": zeroth**2,
        "judge: mean of depths": mean**2,
        "judge: mean of depths, ^4": mean**4,
        "judge: first singular vector, ^4": np.maximum(unit @ consensus, 0) ** 4,
        "judge: the best friend": np.maximum(others.max(axis=1), 0) ** 2,
        "judge: attention gradients": given**2,
        "net over gross": net,
        "net over gross, ^2": net**2,
        "judge: depth 0, × net over gross": zeroth**2 * net,
        "judge: depth 0, × (net over gross)^2": zeroth**2 * net**2,
        "judge: mean of depths, × net over gross": mean**2 * net,
    }
    return {name: w / w.sum() if w.sum() > 0 else np.full(len(w), 1 / len(w)) for name, w in found.items()}


def _column(a: Attribution, context: Any, norm: Any, weight: float) -> Float64:
    return column(a.layer_ig, context, norm, weight).sum(axis=0).astype(np.float64)


def slopes(subject: Subject, case: Case) -> Float64:
    """∂y/∂A (L, T, T), the mean over heads, at the input."""
    clean = subject.classifier.run(subject.batch([case.encoded]), attention=True)
    output = subject.explained(clean.logits, subject.targets([case])).sum()
    gradients = torch.autograd.grad(output, clean.probabilities)
    return numbers(torch.stack([g[0].mean(dim=0) for g in gradients]))


def drawn(name: str, count: int, subject: Subject) -> list[Case]:
    """Cases of a corpus, drawn by the seed; of toxic, comments that are flagged, by the model too."""
    path = Path(os.environ.get("CALIG_SHARED", "../shared")) / "corpora" / f"{CORPORA[name][1]}.parquet"
    table = pq.read_table(path)
    order = np.random.default_rng(SEED).permutation(len(table))[: 4 * count]
    rows = table.take(order).to_pylist()
    if name == "toxic":
        rows = [row for row in rows if row["label"] == 1 and row["rationale"]]
    documents = [
        Document(image_key(row["image"]["bytes"]), image=row["image"]["bytes"])
        if "image" in row
        else Document(document_key(row["text"]), row["text"])
        for row in rows
    ]
    cases = [case for case in subject.cases(documents) if isinstance(case, Case)]
    return [case for case in cases if name != "toxic" or case.target == 1][:count]


def explained(subject: Subject, cases: list[Case], method: Method) -> list[Attribution]:
    """The cases' explanations under a method."""
    explainer = Explainer(subject.explainer.pretrained, method)
    found = explainer.attribute([case.document for case in cases], [case.target for case in cases])
    return [item for item in found if isinstance(item, Attribution)]


def measured(name: str, count: int, device: str) -> dict[tuple[str, str], dict[str, Float64]]:
    """Per metric and removal, each candidate's values over the documents."""
    shared = Path(os.environ.get("CALIG_SHARED", "../shared"))
    subject = Subject(Explainer(load_pretrained(str(shared / "models" / CORPORA[name][0]), device=device)))
    cases = drawn(name, count, subject)
    items = explained(subject, cases, Method())
    maps = attention_maps(subject, cases)
    scores = [
        candidates(Parts(item, own.astype(np.float64), rows.astype(np.float64), slopes(subject, case)))
        for case, item, (own, rows) in zip(cases, items, maps, strict=True)
    ]
    images = subject.explainer.modality == "image"
    for title, options in (OTHER_METHODS["images" if images else "texts"] | OTHER_METHODS["all"]).items():
        for own, item in zip(scores, explained(subject, cases, Method(**options)), strict=True):
            own[f"agreement, λ 0.5, {title}"] = item.scores.astype(np.float64)
    for own, case in zip(scores, cases, strict=True):
        own["random"] = subject.generator(case, "random").random(len(case.encoded))
    measure: Callable[..., Any] = (
        perturbation if images else partial(faithfulness, shares=(0.1, 0.2, 0.3, 0.4, 0.5))
    )
    values = measure(subject, cases, scores, ["zero"] if images else ["delete", "mask"])
    wanted = ("auc_positive", "auc_negative") if images else ("comprehensiveness",)
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for own in values:
        for value in own:
            if value.share is None and value.metric in wanted:
                key = value.metric, str(value.removal)
                found.setdefault(key, {}).setdefault(value.method, []).append(value.value)
    return {key: {m: np.array(v) for m, v in own.items()} for key, own in found.items()}


def table(name: str, found: Mapping[tuple[str, str], Mapping[str, Float64]]) -> list[str]:
    """A corpus's results as Markdown, best first by the first metric."""
    columns = {}
    for (metric, removal), own in found.items():
        methods = list(own)
        rows = paired(
            np.stack([own[m] for m in methods]), methods.index(REFERENCE), metric in LOWER_IS_BETTER
        )
        columns[metric, removal] = dict(zip(methods, rows, strict=True))
    first = next(iter(columns))
    lower = first[0] in LOWER_IS_BETTER
    order = sorted(columns[first], key=lambda m: columns[first][m].mean * (1 if lower else -1))
    heads = [f"{metric}, {removal}{' ↓' if metric in LOWER_IS_BETTER else ''}" for metric, removal in columns]
    model, corpus = CORPORA[name]
    count = next(iter(columns[first].values())).documents
    lines = ["", f"## {corpus}, {model}, {count} documents", "", f"| candidate | {' | '.join(heads)} |"]
    lines.append("|---|" + "---|" * len(heads))
    for method in order:
        cells = []
        for own in columns.values():
            c = own[method]
            cells.append(
                f"{c.mean:.3f} ({c.difference:+.3f} [{c.difference_low:+.3f}, {c.difference_high:+.3f}])"
            )
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("corpora", nargs="*", default=list(CORPORA))
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "fusion.md")
    asked = parser.parse_args()
    lines = [
        "# Fusions on development data",
        "",
        f"`python -m tests.benchmarks.fusion`, seed {SEED}, predicted class, tolerance 0.01. Means; in brackets the "
        f"paired difference to “{REFERENCE}” with its 95 % interval over documents.",
    ]
    for name in asked.corpora:
        lines += table(name, measured(name, asked.documents, asked.device))
        asked.out.write_text("\n".join(lines) + "\n")
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
