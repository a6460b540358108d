"""Is an image's explanation faithful? Perturbation AUC of CA-LIG, attention rollout and chance, on 1,000 photos.

    python -m tests.benchmarks.perturbation

Needs `models/vit-mae-cifar10` and `corpora/cifar10-test.parquet` under $CALIG_SHARED. For every image, patches are
removed in the order that a method ranks them, 0, 10, … 90 % of them, and the model's probability of the class that it
predicted for the whole image is read; an image's AUC is the mean of that curve by trapezoids. Positive: most relevant
first, lower is better. Negative: least relevant first, higher is better. Removal sets pixel values to zero, which is
the explanations' baseline, and, since metric and method share an assumption there, also to the image's mean colour.
Intervals are 95 % bootstrap over images, and differences to chance are paired, image by image.

Attention rollout (Abnar and Zuidema 2020): the row of [CLS] in Π (½ mean over heads of A + ½ I), special tokens apart.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch

from calig.attribution.explainer import Explainer
from calig.models.images import channel_means
from calig.records import Attribution, Document, image_key

RESULTS = Path(__file__).parent / "results"
SHARES = np.arange(0, 10) / 10
BATCH = 250
RESAMPLES = 2000
Float64 = npt.NDArray[np.float64]


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS / "perturbation")
    asked = parser.parse_args()
    shared = Path(os.environ.get("CALIG_SHARED", "../shared"))
    rows = pq.read_table(shared / "corpora/cifar10-test.parquet").slice(0, asked.images).to_pylist()
    data = [row["image"]["bytes"] for row in rows]
    explainer = Explainer.from_pretrained(str(shared / "models/vit-mae-cifar10"))
    documents = [Document(image_key(d), image=d) for d in data]
    start = time.perf_counter()
    found = [a for a in explainer.attribute(documents) if isinstance(a, Attribution)]
    seconds = time.perf_counter() - start
    assert len(found) == len(documents)
    pixels = torch.stack(
        [explainer.engine.encoder.read([d])[0].pixels for d in documents]  # type: ignore[union-attr]
    )
    targets = torch.tensor([a.target for a in found])
    orders = ranked(explainer, found, pixels)
    results: dict[str, Any] = {"images": len(found), "explaining_seconds": round(seconds, 1), "removals": {}}
    for removal, other in (("zero", torch.zeros_like(pixels)), ("mean colour", channel_means(pixels))):
        curves = {
            (name, sign): _curves(explainer, pixels, other, targets, order if sign == "positive" else -order)
            for name, order in orders.items()
            for sign in ("positive", "negative")
        }
        results["removals"][removal] = summary(curves)
    results["accuracy"] = float(
        np.mean([a.predicted == r["label"] for a, r in zip(found, rows, strict=True)])
    )
    results["converged"] = float(np.mean([a.converged.all() for a in found]))
    asked.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    text = table(results)
    asked.out.with_suffix(".md").write_text(text)
    print(text)


def ranked(explainer: Explainer, found: list[Attribution], pixels: torch.Tensor) -> dict[str, Float64]:
    """Per method, the relevance (images, patches) by which patches are ranked."""
    content = ~found[0].is_special
    rng = np.random.default_rng(0)
    depths = range(explainer.depth)
    return {
        "CA-LIG": np.stack([a.scores[content] for a in found]).astype(np.float64),
        "LIG averaged over depths (λ = 0)": np.stack(
            [_normed(a.layer_ig[:-1]).sum(axis=0)[content] for a in found]
        ),
        "IG at the embeddings": np.stack([a.layer_ig[0, content] for a in found]).astype(np.float64),
        f"LIG at depth {depths[-1]}": np.stack([a.layer_ig[-2, content] for a in found]).astype(np.float64),
        "attention rollout": _rollout(explainer, pixels)[:, content],
        "random": rng.random((len(found), int(content.sum()))),
    }


def _normed(values: npt.NDArray[np.float32]) -> Float64:
    norms = np.abs(values).sum(axis=1, keepdims=True)
    scaled: Float64 = np.divide(values, norms, out=np.zeros(values.shape), where=norms > 0)
    return scaled


def _rollout(explainer: Explainer, pixels: torch.Tensor) -> Float64:
    """(images, T): what flows from every token to [CLS] if heads are averaged and residuals are the identity."""
    classifier, encoder = explainer.engine.classifier, explainer.engine.encoder
    rows = []
    for part in pixels.split(BATCH):
        encoded = encoder.read([Document(str(i), image=image) for i, image in enumerate(part)])
        with torch.no_grad():
            maps = classifier.run(encoder.batch(encoded, classifier.device), attention=True).probabilities
        total = torch.eye(maps[0].shape[-1]).expand(len(part), -1, -1)
        for attention in maps:
            mixed = 0.5 * attention.mean(dim=1) + 0.5 * torch.eye(attention.shape[-1])
            total = mixed @ total
        rows.append(total[:, 0])
    flow: Float64 = torch.cat(rows).double().numpy()
    return flow


def _curves(
    explainer: Explainer, pixels: torch.Tensor, other: torch.Tensor, targets: torch.Tensor, relevance: Float64
) -> Float64:
    """(images, shares) probability of the target with the most relevant share of patches removed."""
    model, patch = explainer.pretrained.model, explainer.pretrained.model.config.patch_size
    count = relevance.shape[1]
    place = np.argsort(np.argsort(-relevance, axis=1, kind="stable"), axis=1, kind="stable")
    side = pixels.shape[-1] // patch
    curves = np.empty((len(pixels), len(SHARES)))
    for column, share in enumerate(SHARES):
        gone = torch.from_numpy(place < round(share * count)).reshape(-1, 1, side, side)
        mask = gone.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
        changed = torch.where(mask, other, pixels)
        for first in range(0, len(pixels), BATCH):
            rows = slice(first, first + BATCH)
            with torch.no_grad():
                shares = model(pixel_values=changed[rows]).logits.softmax(-1)
            curves[rows, column] = shares.gather(1, targets[rows, None])[:, 0].double().numpy()
    return curves


def summary(curves: dict[tuple[str, str], Float64]) -> dict[str, Any]:
    """Per method and order: mean AUC with its interval, and the paired difference to random with its own."""
    rng = np.random.default_rng(0)
    count = len(next(iter(curves.values())))
    drawn = rng.integers(count, size=(RESAMPLES, count))
    width = SHARES[-1] - SHARES[0]
    aucs = {key: np.trapezoid(curve, SHARES, axis=1) / width for key, curve in curves.items()}

    def interval(values: Float64) -> list[float]:
        low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
        return [float(values.mean()), float(low), float(high)]

    return {
        f"{name}, {sign}": {"auc": interval(auc), "minus random": interval(auc - aucs["random", sign])}
        for (name, sign), auc in aucs.items()
    }


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Perturbation AUC on images",
        "",
        f"`python -m tests.benchmarks.perturbation`, {results['images']} images of cifar10-test, vit-mae-cifar10 "
        f"(accuracy {results['accuracy']:.3f}), predicted class, baseline zero, tolerance 0.01 "
        f"({results['converged']:.1%} of images converged at every depth). Mean [95 % interval over images].",
    ]
    for removal, found in results["removals"].items():
        lines += ["", f"## Patches replaced by {removal}", ""]
        lines += [
            "| method | positive ↓ | minus random | negative ↑ | minus random |",
            "|---|---|---|---|---|",
        ]
        for name in dict.fromkeys(key.rpartition(", ")[0] for key in found):
            cells = [
                _written(found[f"{name}, {sign}"][what])
                for sign in ("positive", "negative")
                for what in ("auc", "minus random")
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _written(value: list[float]) -> str:
    return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


if __name__ == "__main__":
    main()
