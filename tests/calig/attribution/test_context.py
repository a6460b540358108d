"""Attention gradients, derived twice more: by autograd on the eager kernel, and by finite differences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from calig.attribution.explainer import Explainer
from calig.models.classifier import Classifier
from tests.material import zoo
from tests.material.tiers import few

Float64 = npt.NDArray[np.float64]


def context_of(explainer: Explainer, items: list[Any]) -> list[tuple[Float64, Float64]]:
    """The engine's float64 context (L, T) and norms (L,), per text or image."""
    engine = explainer.engine
    encoded = engine.encoder.read(zoo.documents(items))
    results = engine.explain(encoded, lambda _, logits: int(np.argmax(logits)))
    return [(r.context, r.context_norm) for r in results]


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("name", few(zoo.FAMILIES, zoo.QUICK, zoo.MATRIX))
def test_the_context_equals_autograd_through_the_model_s_own_attentions(name: str) -> None:
    items = zoo.items(name)
    found = context_of(zoo.explainer(name, context="input", steps=6), items)
    pretrained = zoo.load(name)
    model = pretrained.model.requires_grad_()
    model.set_attn_implementation("eager")
    for item, (context, norms) in zip(items, found, strict=True):
        out = model(**zoo.inputs(pretrained, [item]), output_attentions=True)
        gradients = torch.autograd.grad(out.logits[0].max(), out.attentions)
        for block, (attention, gradient) in enumerate(zip(out.attentions, gradients, strict=True)):
            relevance = (attention * gradient)[0].mean(dim=0).detach()  # rows: queries; columns: sources
            np.testing.assert_allclose(context[block], relevance.sum(dim=0), rtol=1e-8, atol=1e-12)
            assert norms[block] == pytest.approx(float(relevance.abs().sum()), rel=1e-8)


@contextmanager
def disturbed(family: zoo.Family, model: Any, block: int, change: Tensor) -> Iterator[None]:
    """Attention whose probabilities (B, heads, T, T) in one block are changed by so much."""
    if family.dropout is not None:
        path = f"{family.block.format(block).removesuffix('.output')}.{family.dropout}"
        hook = model.get_submodule(path).register_forward_hook(lambda _module, _args, output: output + change)
        yield
        hook.remove()
        return
    calls = iter(range(10**6))

    def attend(
        _module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        key, value = (x.expand(-1, query.shape[1], -1, -1) if x.shape[1] == 1 else x for x in (key, value))
        scores = torch.einsum("bhqd,bhkd->bhqk", query, key) * options["scaling"]
        probabilities = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        if next(calls) == block:
            probabilities = probabilities + change
        return torch.einsum("bhqk,bhkd->bqhd", probabilities, value), None

    AttentionInterface.register("disturbed", attend)
    AttentionMaskInterface.register("disturbed", eager_mask)
    before = model.config._attn_implementation
    model.config._attn_implementation = "disturbed"
    try:
        yield
    finally:
        model.config._attn_implementation = before


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("name", few(zoo.FAMILIES, zoo.QUICK, zoo.MATRIX))
def test_the_context_equals_finite_differences_of_single_probabilities(name: str) -> None:
    """∂y/∂A[h, q, k] by moving that one probability up and down: one row of a batch for each."""
    pretrained, step = zoo.load(name), 1e-4
    item = "good film" if name in zoo.TEXT_FAMILIES else zoo.items(name)[0]
    ((context, norms),) = context_of(zoo.explainer(name, context="input", steps=6), [item])
    given = zoo.inputs(pretrained, [item])
    length = context.shape[1]
    own = pretrained.model(**given).logits[0]
    target, entries = int(own.argmax()), zoo.HEADS * length**2
    moves = torch.eye(entries, dtype=torch.float64).reshape(entries, zoo.HEADS, length, length) * step
    many = {k: v.expand(entries, *v.shape[1:]) for k, v in given.items()}
    eager = zoo.load(name).model
    eager.set_attn_implementation("eager")
    for block in range(zoo.BLOCKS):
        logits = []
        for change in (moves, -moves):
            with torch.no_grad(), disturbed(zoo.FAMILIES[name], pretrained.model, block, change):
                logits.append(pretrained.model(**many).logits[:, target])
        slope = ((logits[0] - logits[1]) / (2 * step)).reshape(zoo.HEADS, length, length)
        with torch.no_grad():
            attention = eager(**given, output_attentions=True).attentions[block][0]
        relevance = (attention * slope).mean(dim=0)
        scale = float(relevance.abs().max())
        np.testing.assert_allclose(context[block], relevance.sum(dim=0), atol=1e-5 * scale)
        assert norms[block] == pytest.approx(float(relevance.abs().sum()), rel=1e-5)


@contextmanager
def fed(classifier: Classifier, depth: int, state: Tensor) -> Iterator[None]:
    """The block above `depth` is given another state, whatever the blocks below it, which run, have made."""
    calls = iter(range(10**6))

    def exchange(_module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if next(calls) != depth:
            return args, kwargs
        return ((state, *args[1:]), kwargs) if args else ((), {**kwargs, next(iter(kwargs)): state})

    hooks = [
        module.register_forward_pre_hook(exchange, with_kwargs=True)
        for module in dict.fromkeys(classifier.blocks)
    ]
    yield
    for hook in hooks:
        hook.remove()


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize(  # DeBERTa's convolution reads the embeddings again
    "name", few([name for name in zoo.TEXT_FAMILIES if name != "deberta-v2"], zoo.QUICK, zoo.MATRIX)
)
def test_the_context_of_a_path_is_the_mean_over_its_nodes_of_the_model_s_own_attention_gradients(
    name: str,
) -> None:
    """Three midpoints: Σ over queries of A ⊙ ∂y/∂A, at the states there, from `output_attentions`."""
    text = zoo.TEXTS[0]
    explainer = zoo.explainer(name, pretrained=zoo.load(name), rule="midpoint", steps=3)
    ((found, norms),) = context_of(explainer, [text])
    engine = explainer.engine
    batch = engine.encoder.batch(engine.encoder.encode([text]), engine.classifier.device)
    with torch.no_grad():
        clean = engine.classifier.run(batch)
        base = engine.classifier.run(batch, engine.passes.baseline)
    target = int(clean.logits.argmax())
    model = engine.classifier.model
    model.set_attn_implementation("eager")
    for depth in range(engine.classifier.depth):
        total = 0.0
        for node in (1 / 6, 3 / 6, 5 / 6):
            state = base.states[depth] + node * (clean.states[depth] - base.states[depth])
            with fed(engine.classifier, depth, state.requires_grad_()):
                out = model(**zoo.inputs(explainer.pretrained, [text]), output_attentions=True)
            attention = out.attentions[depth]
            (gradient,) = torch.autograd.grad(out.logits[0, target], attention)
            total = total + (attention.detach() * gradient)[0].mean(dim=0).sum(dim=0) / 3
        np.testing.assert_allclose(found[depth], total, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(norms, np.abs(found).sum(axis=1))


def test_the_context_of_a_path_is_integrated_as_exactly_as_the_nodes_allow() -> None:
    texts = list(zoo.TEXTS)
    usual = context_of(zoo.explainer("bert", tolerance=1e-3), texts)
    finely = context_of(zoo.explainer("bert", rule="gauss-legendre", steps=64), texts)
    for (found, _), (expected, _) in zip(usual, finely, strict=True):
        for own, other in zip(found, expected, strict=True):
            assert np.linalg.norm(own - other) <= 1e-2 * np.linalg.norm(other)


@pytest.mark.parametrize("where", ["path", "input"])
@pytest.mark.parametrize("name", ["roberta", "mpnet"])
def test_padding_and_the_attention_budget_do_not_change_it(name: str, where: str) -> None:
    texts = list(zoo.TEXTS)
    explainer = zoo.explainer(name, context=where, steps=6)
    together = context_of(explainer, texts)
    explainer.engine.passes.attention_budget = 1  # one text at a time
    one_by_one = context_of(explainer, texts)
    alone = [context_of(explainer, [text])[0] for text in texts]
    for (a, na), (b, nb), (c, nc) in zip(together, one_by_one, alone, strict=True):
        for context, norm in ((b, nb), (c, nc)):
            np.testing.assert_allclose(a, context, rtol=1e-9, atol=1e-13)
            np.testing.assert_allclose(na, norm, rtol=1e-9)
