"""The stated error is the true one, or more: against references of many nodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from calig.attribution.engine import TextResult
from calig.attribution.explainer import Explainer
from calig.attribution.method import Method
from calig.models.loading import Pretrained, load_pretrained
from tests.material import zoo
from tests.material.tiers import extended, few

SHARED = Path(os.environ.get("CALIG_SHARED", "../shared"))
Record = Callable[[str, object], None]
RULES = "every rule at every tolerance"


@dataclass(frozen=True)
class Pair:
    """One (document, depth): its true relative L2 error, and what was said of it."""

    true: float
    estimate: float
    converged: bool
    nodes: int


def results(explainer: Explainer, texts: list[str]) -> list[TextResult]:
    engine = explainer.engine
    return engine.explain(engine.encoder.encode(texts), lambda _, logits: int(np.argmax(logits)))


def compare(found: list[TextResult], reference: list[TextResult]) -> list[Pair]:
    return [
        Pair(
            float(np.linalg.norm(d.ig - r.ig) / np.linalg.norm(r.ig)), d.error_estimate, d.converged, d.nodes
        )
        for a, b in zip(found, reference, strict=True)
        for d, r in zip(a.depths, b.depths, strict=True)
    ]


def sentences(count: int) -> list[str]:
    rng = np.random.default_rng(5)
    return [" ".join(rng.choice(zoo.WORDS, size=rng.integers(2, 9))) for _ in range(count)]


def sharp(name: str) -> bool:
    """Whether paths have kinks (a ReLU) or begin steeply (baseline states of little length, before a norm)."""
    return zoo.TEXT_FAMILIES[name].kinks or zoo.TEXT_FAMILIES[name].pools == "last"


@cache
def reference(name: str, count: int) -> list[TextResult]:
    """Of so many sentences: 64 Gauss–Legendre nodes, or 1,000 midpoints where those do not resolve the path."""
    fine = {"rule": "midpoint", "steps": 1000} if sharp(name) else {"rule": "gauss-legendre", "steps": 64}
    return results(zoo.explainer(name, **fine), sentences(count))


def check(pairs: list[Pair], tolerance: float, record: Record, precision: float = 1e-6) -> None:
    """Few of the converged are understated, hardly any above the tolerance, and none by as much again."""
    converged = [p for p in pairs if p.converged]
    understated = [p for p in converged if p.true > p.estimate + precision]
    record("pairs", len(pairs))
    record("converged", len(converged))
    record("understated", len(understated))
    record("worst_true_error", max(p.true for p in converged))
    assert len(converged) >= 0.85 * len(pairs)
    assert max(p.true for p in converged) <= 2 * tolerance
    assert sum(p.true > tolerance for p in converged) <= max(1, 0.005 * len(converged))
    assert len(understated) <= 0.1 * len(converged)
    assert all(p.estimate <= tolerance for p in converged)


@pytest.mark.parametrize("tolerance", few([1e-2, 1e-3], [1e-2], RULES))
@pytest.mark.parametrize("rule", ["auto", "midpoint", "trapezoid", "gauss-kronrod", "gauss-legendre"])
@pytest.mark.parametrize("name", few(["roberta", "electra"], ["electra"], RULES))
def test_the_estimate_covers_the_true_error(
    name: str, rule: str, tolerance: float, record_property: Record
) -> None:
    explainer = zoo.explainer(name, rule=rule, tolerance=tolerance, max_nodes=1500)
    pairs = compare(results(explainer, sentences(12)), reference(name, 12))
    check(pairs, tolerance, record_property)


@pytest.mark.parametrize("name", few(zoo.TEXT_FAMILIES, zoo.QUICK, zoo.MATRIX))
def test_the_estimate_covers_the_true_error_of_every_family(name: str, record_property: Record) -> None:
    count = 4 if sharp(name) else 16
    found = results(zoo.explainer(name), sentences(count))
    check(compare(found, reference(name, count)), 1e-2, record_property)


def test_the_completeness_residual_alone_would_not_do() -> None:
    """What METHOD warns of: residuals within the tolerance while the token vector is not."""
    coarse = results(zoo.explainer("roberta", rule="gauss-legendre", steps=3), sentences(24))
    fooled = 0
    for a, b in zip(coarse, reference("roberta", 24), strict=True):
        for d, r in zip(a.depths, b.depths, strict=True):
            change = abs(a.output - a.baseline_output)
            small = d.completeness_error <= 1e-2 * max(change, 0.05 * np.abs(d.ig).sum(), 1e-3)
            wrong = bool(np.linalg.norm(d.ig - r.ig) > 1e-2 * np.linalg.norm(r.ig))
            fooled += small and wrong
            assert not (wrong and d.converged), "the estimate is not fooled"
    assert fooled > 0


def test_too_few_nodes_give_a_result_that_says_so() -> None:
    (a,) = zoo.explainer("roberta", tolerance=1e-6, max_nodes=14).explain(["a good film"])
    assert not a.converged.any()
    assert a.nodes.tolist() == [14] * 4
    assert np.isfinite(a.layer_ig).all()
    assert (a.error_estimate > 1e-6).all()


@pytest.mark.parametrize("rule", ["auto", "midpoint", "trapezoid", "gauss-legendre"])
def test_fixed_steps_are_spent_and_their_error_is_stated(rule: str) -> None:
    found = results(zoo.explainer("roberta", rule=rule, steps=20), sentences(4))
    for pair in compare(found, reference("roberta", 4)):
        assert pair.nodes == 20
        assert pair.true <= pair.estimate + 1e-6
        assert pair.converged == (pair.estimate <= 1e-2)


def test_a_tighter_tolerance_costs_more_and_gives_less_error() -> None:
    runs = [
        results(zoo.explainer("electra", tolerance=t), sentences(6)) for t in (1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
    ]
    passes = [sum(r.block_passes for r in run) for run in runs]
    assert passes == sorted(passes)
    errors = [max(p.true for p in compare(run, runs[-1])) for run in runs[:-1]]
    assert errors == sorted(errors, reverse=True)


def test_block_passes_are_those_of_the_blocks_above_and_of_both_ends() -> None:
    """The ends of every path come from the input's run and the baseline's: a forward and a backward pass each."""
    (a,) = zoo.explainer("bert").explain(["not bad"])
    own = a.nodes - 2
    assert a.block_passes == 3 * own[0] + 2 * own[1] + own[2] + 2 * 3


@pytest.fixture(scope="module")
def minilm() -> tuple[Pretrained, list[str]]:
    """The real classifier, and ten short sentences of the development set."""
    model, corpus = SHARED / "models" / "minilm-sst2", SHARED / "corpora" / "sst2-dev.parquet"
    if not model.is_dir() or not corpus.is_file():
        pytest.skip(
            f"no minilm-sst2 or sst2-dev under {SHARED.resolve()}: set CALIG_SHARED to the shared folder"
        )
    import pyarrow.parquet as pq

    texts = [t for t in pq.read_table(corpus, columns=["text"])["text"].to_pylist() if 15 < len(t) < 45]
    return load_pretrained(str(model)), texts[:10]


@pytest.mark.shared
@extended("a real model at 64 nodes takes half a minute")
def test_the_estimate_covers_the_true_error_of_a_real_model(
    minilm: tuple[Pretrained, list[str]], record_property: Record
) -> None:
    pretrained, texts = minilm
    truth = results(Explainer(pretrained, Method(rule="gauss-legendre", steps=64)), texts)
    for tolerance in (1e-2, 1e-3):
        found = results(Explainer(pretrained, Method(tolerance=tolerance)), texts)
        check(compare(found, truth), tolerance, record_property, precision=1e-4)


@pytest.mark.shared
def test_a_real_model_agrees_with_captum_on_the_same_nodes(minilm: tuple[Pretrained, list[str]]) -> None:
    from captum.attr import LayerIntegratedGradients

    pretrained, texts = minilm
    model, tokenizer = pretrained.model, pretrained.tokenizer
    explainer = Explainer(pretrained, Method(rule="midpoint", steps=18))
    for a, text in zip(explainer.explain(texts[:2]), texts[:2], strict=True):
        given = tokenizer(text, return_tensors="pt")
        baseline = given["input_ids"].where(torch.from_numpy(a.is_special), tokenizer.pad_token_id)
        layers = [model.bert.embeddings, *model.bert.encoder.layer]
        for depth, layer in enumerate(layers):
            lig = LayerIntegratedGradients(
                lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits, layer
            ).attribute(
                given["input_ids"],
                baselines=baseline,
                target=a.target,
                additional_forward_args=(given["attention_mask"],),
                n_steps=18,
                method="riemann_middle",
            )
            expected = lig.sum(-1)[0].detach().numpy()
            assert a.nodes[depth] == 18
            assert np.linalg.norm(a.layer_ig[depth] - expected) <= 1e-4 * np.linalg.norm(expected)
