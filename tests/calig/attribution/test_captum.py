"""Layer-wise integrated gradients against Captum's, with the same nodes and the same baseline, at every depth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from captum.attr import LayerIntegratedGradients

from calig.attribution.engine import TextResult
from calig.attribution.explainer import Explainer
from calig.models.loading import Pretrained
from tests.material import zoo

FAMILIES = list(zoo.FAMILIES)
Float64 = npt.NDArray[np.float64]


def captum_lig(
    name: str, pretrained: Pretrained, texts: tuple[str, ...], targets: list[int], method: str, steps: int
) -> list[Float64]:
    """Per depth (B, T): Captum on the padded batch. Its baseline replaces content ids by the pad id.

    Some models would count positions, or find the row they pool, anew over such ids: those of the input are passed.
    """
    family, tokenizer = zoo.FAMILIES[name], pretrained.tokenizer
    model = written_out(family, pretrained.model)
    given = tokenizer(list(texts), padding=True, return_tensors="pt", return_special_tokens_mask=True)
    ids, mask = given["input_ids"], given["attention_mask"]
    fixed = given["special_tokens_mask"].bool() | (mask == 0)
    baseline = torch.where(fixed, ids, tokenizer.pad_token_id)
    numbers = zoo.positions(family, ids, mask)

    def forward(ids: torch.Tensor, mask: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        return zoo.answer(family, model, ids, mask, numbers)

    found = []
    for depth in range(zoo.BLOCKS + 1):
        path = family.block.format(depth - 1) if depth else family.embeddings
        lig = LayerIntegratedGradients(
            forward, model.get_submodule(path or family.block.format(0))
        ).attribute(
            ids,
            baselines=baseline,
            target=targets,
            additional_forward_args=(mask, numbers),
            n_steps=steps,
            method=method,
            internal_batch_size=2000,
            attribute_to_layer_input=path is None,
        )
        found.append(lig.sum(-1).detach().numpy())
    return found


def written_out(family: zoo.Family, model: Any) -> Any:
    """The same model, with a module for each block where blocks share one."""
    if family.written_out is None:
        return model
    config = type(model.config)(**{**model.config.to_dict(), **family.written_out})
    twin = type(model)(config).double().eval().requires_grad_(False)
    weights = model.state_dict()
    copies = {k: weights[re.sub(r"groups\.\d+", "groups.0", k)] for k in twin.state_dict()}
    twin.load_state_dict(copies)
    return twin


def ours(explainer: Explainer, texts: tuple[str, ...]) -> list[TextResult]:
    """The engine's own float64 results, before they are rounded to what is stored."""
    engine = explainer.engine
    encoded = engine.encoder.encode(texts)
    return engine.explain(encoded, lambda _, logits: int(np.argmax(logits)))


def relative(found: Float64, expected: Float64) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture
def double() -> Iterator[None]:
    """Captum makes its nodes in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double", "in_double")
@pytest.mark.parametrize("name", FAMILIES)
def test_same_nodes_give_the_same_numbers(name: str) -> None:
    pretrained = zoo.load(name)
    results = ours(zoo.explainer(name, pretrained=pretrained, steps=18, rule="midpoint"), zoo.TEXTS)
    assert {d.nodes for r in results for d in r.depths} == {18}
    expected = captum_lig(name, pretrained, zoo.TEXTS, [r.target for r in results], "riemann_middle", 18)
    for depth in range(zoo.BLOCKS + 1):
        for row, result in enumerate(results):
            mine, theirs = result.depths[depth].ig, expected[depth][row]
            assert np.abs(theirs[len(mine) :]).max(initial=0) == 0, "padding has no relevance"
            assert relative(mine, theirs[: len(mine)]) < 1e-12


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_stored_is_that_in_float32(name: str) -> None:
    explainer = zoo.explainer(name, steps=18, rule="midpoint")
    stored = explainer.explain(zoo.TEXTS)
    for a, r in zip(stored, ours(explainer, zoo.TEXTS), strict=True):
        for depth in range(zoo.BLOCKS + 1):
            assert a.layer_ig.dtype == np.float32
            assert relative(a.layer_ig[depth].astype(np.float64), r.depths[depth].ig) < 1e-6


@pytest.mark.parametrize("name", [name for name, family in zoo.FAMILIES.items() if not family.kinks])
def test_what_converged_agrees_with_captum_s_converged_integral(name: str) -> None:
    """Gauss–Legendre resolves kinks (ReLU, in DistilBERT's head and OPT's blocks) too slowly to serve as reference."""
    pretrained = zoo.load(name)
    results = ours(zoo.explainer(name, pretrained=pretrained, tolerance=1e-2), zoo.TEXTS)
    expected = captum_lig(name, pretrained, zoo.TEXTS, [r.target for r in results], "gausslegendre", 60)
    for row, result in enumerate(results):
        for depth, found in enumerate(result.depths):
            assert found.converged
            assert relative(found.ig, expected[depth][row][: len(found.ig)]) <= 1e-2


@pytest.mark.parametrize("name", FAMILIES)
def test_completeness_at_every_depth(name: str) -> None:
    """Σ LIG is the change of the logit, found here by running the model, not read from the result."""
    pretrained = zoo.load(name)
    for text in zoo.TEXTS:
        (a,) = zoo.explainer(name, pretrained=pretrained, tolerance=1e-3).explain([text])
        logits = pretrained.model(**zoo.inputs(pretrained, [text])).logits[0]
        assert a.target == a.predicted == int(logits.argmax())
        assert a.logit == pytest.approx(float(logits.max()), abs=1e-9)
        np.testing.assert_allclose(a.logits, logits.numpy(), rtol=1e-6)
        residual = np.abs(a.layer_ig.sum(axis=1, dtype=np.float64) - (a.logit - a.baseline_logit))
        np.testing.assert_allclose(a.completeness_error, residual, atol=1e-6)
        scale = np.maximum(abs(a.logit - a.baseline_logit), 0.05 * np.abs(a.layer_ig).sum(axis=1))
        assert (residual[a.converged] <= 1e-3 * np.maximum(scale, 1e-3)[a.converged] + 1e-6).all()
        assert a.converged.all() or zoo.FAMILIES[name].kinks


def test_the_last_depth_of_a_pooling_model_is_all_at_the_pooled_row() -> None:
    (a,) = zoo.explainer("bert").explain(["a good film"])
    assert np.abs(a.layer_ig[-1, 1:]).max() == 0
    assert abs(a.layer_ig[-1, 0]) > 0


def test_special_tokens_take_no_relevance_at_the_embeddings() -> None:
    """They are the same in the baseline; above the embeddings they are not."""
    for name, family in zoo.FAMILIES.items():
        (a,) = zoo.explainer(name, steps=6).explain(["a good film"])
        assert np.abs(a.layer_ig[0, a.is_special]).max(initial=0) == 0
        sees_content = family.tokenizer.before and not family.causal
        assert (np.abs(a.layer_ig[1, a.is_special]).max(initial=0) > 0) == sees_content
