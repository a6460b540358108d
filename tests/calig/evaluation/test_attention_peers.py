"""Attention methods by hand on two tokens, and by plain matrix algebra on the model's own attentions."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from calig.evaluation.attention_peers import (
    attcat,
    attention_grad_cam,
    attention_rollout,
    attention_x_gradient,
    read_out,
)
from calig.models.classifier import Pass
from calig.models.inputs import Batch
from tests.calig.evaluation.peer_cases import explained
from tests.material import zoo
from tests.material.tiers import few

Float64 = npt.NDArray[np.float64]
FIRST_ROW = ("bert", "distilbert", "mpnet", "modernbert", "albert", "vit", "beit-shared")
pytestmark = pytest.mark.usefixtures("in_double")


def toy() -> Any:
    """One block of one head over two tokens of one number each, h = (2, −1): A h, read at the first row; y = −¼."""
    attention = torch.tensor([[[[0.25, 0.75], [0.5, 0.5]]]], dtype=torch.float64, requires_grad=True)
    state = torch.tensor([[[2.0], [-1.0]]], dtype=torch.float64, requires_grad=True)

    def run(_batch: Batch, attention: Any, probabilities: torch.Tensor = attention) -> Pass:
        assert attention
        mixed = probabilities[:, 0] @ state
        return Pass([state, mixed], mixed[:, 0], [probabilities], [])

    ones = torch.ones(1, 2, dtype=torch.long)
    batch = Batch({"input_ids": ones, "attention_mask": ones}, ones.bool())
    return SimpleNamespace(
        classifier=SimpleNamespace(run=run, depth=1, heads=1),
        groups=lambda _encoded: [[0]],
        batch=lambda _encoded: batch,
        targets=lambda _cases: torch.zeros(1, dtype=torch.long),
        explained=lambda logits, _targets: logits[:, 0],
        explainer=SimpleNamespace(engine=SimpleNamespace(passes=SimpleNamespace(attention_budget=100))),
    )


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (attention_rollout, [0.625, 0.375]),  # ½ (1, 0) + ½ (¼, ¾)
        (attention_x_gradient, [0.5, 0.0]),  # relu(A ⊙ h) in the first row: ¼ · 2, and ¾ · −1 below zero
        (attcat, [0.375 * 0.5, 0.625 * -0.75]),  # mean attention of (¼, ½), (¾, ½); activations A[0] ⊙ h
        (attention_grad_cam, [0.125, 0.375]),  # the head's mean gradient (2 − 1) / 2 times (¼, ¾)
    ],
)
def test_methods_give_what_was_worked_out_by_hand(
    method: Callable[..., list[Float64]], expected: list[float]
) -> None:
    (found,) = method(toy(), [SimpleNamespace(encoded=[0, 1])])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


class Watched:
    """A text's attentions (L, heads, T, T) and hidden states (L + 1, T, D) as transformers gives them, with gradients.

    `row` is the row that the head reads.
    """

    def __init__(self, model: Any, inputs: dict[str, torch.Tensor], target: int, row: int) -> None:
        before = model.config._attn_implementation
        model.set_attn_implementation("eager")
        for parameter in model.parameters():
            parameter.requires_grad_()
        answer = model(**inputs, output_attentions=True, output_hidden_states=True)
        both = [*answer.attentions, *answer.hidden_states]
        gradients = torch.autograd.grad(answer.logits[0, target], both, allow_unused=True)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        model.set_attn_implementation(before)
        depth = len(answer.attentions)
        self.attention = [a[0].detach().numpy() for a in answer.attentions]
        self.states = [h[0].detach().numpy() for h in answer.hidden_states]
        self.by_attention = [g[0].numpy() for g in gradients[:depth]]
        self.by_state = [g[0].numpy() for g in gradients[depth : 2 * depth]]
        self.row = row

    def rollout(self) -> Float64:
        row = np.eye(self.attention[0].shape[1])[self.row]
        for a in reversed(self.attention):
            row = row @ (a.mean(axis=0) + np.eye(len(row))) / 2
        return row

    def chefer(self) -> Float64:
        size = self.attention[0].shape[1]
        relevance = np.eye(size)
        for a, g in zip(self.attention, self.by_attention, strict=True):
            cam = sum(np.maximum(a[h] * g[h], 0) for h in range(len(a))) / len(a)
            relevance += cam @ relevance
        found = relevance[self.row].copy()
        found[self.row] -= 1
        return found

    def attcat(self) -> Float64:
        heads, size, _ = self.attention[0].shape
        found = np.zeros(size)
        for a, h, g in zip(self.attention, self.states, self.by_state, strict=False):
            for j in range(size):
                weight = sum(a[head, i, j] for head in range(heads) for i in range(size)) / (heads * size)
                found[j] += weight * float(h[j] @ g[j])
        return found

    def grad_cam(self) -> Float64:
        a, g = self.attention[-1][:, self.row], self.by_attention[-1][:, self.row]
        return np.mean([g[h].mean() * a[h] for h in range(len(a))], axis=0)


METHODS = {
    attention_rollout: Watched.rollout,
    attention_x_gradient: Watched.chefer,
    attcat: Watched.attcat,
    attention_grad_cam: Watched.grad_cam,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["bert", "gpt2", "vit"])
def test_methods_give_what_algebra_on_the_models_own_attentions_gives(
    name: str, method: Callable[..., list[Float64]]
) -> None:
    subject, cases = explained(name, pretrained=zoo.load(name))
    found = method(subject, cases)  # together: documents of other lengths beside them
    for case, ours in zip(cases, found, strict=True):
        inputs = subject.batch([case.encoded]).inputs
        row = len(case.encoded) - 1 if name == "gpt2" else 0
        options = {"use_cache": False} if name == "gpt2" else {}
        watched = Watched(subject.classifier.model, {**inputs, **options}, case.target, row)
        expected = METHODS[method](watched)
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


def weights(name: str) -> tuple[Float64, list[int]]:
    """(documents, T) what `read_out` finds for documents in one batch, and their lengths."""
    subject, cases = explained(name)
    run = subject.classifier.run(subject.batch([case.encoded for case in cases]))
    (gradient,) = torch.autograd.grad(run.logits[:, 1].sum(), run.states[-1:])
    return read_out(gradient).numpy(), [len(case.encoded) for case in cases]


@pytest.mark.parametrize("name", few(FIRST_ROW, zoo.QUICK, zoo.MATRIX))
def test_a_head_that_reads_the_first_row_is_recognised(name: str) -> None:
    rows, _ = weights(name)
    np.testing.assert_array_equal(rows, np.eye(rows.shape[1])[[0] * len(rows)])


@pytest.mark.parametrize("name", few(["gpt2", "llama", "opt"], zoo.QUICK, zoo.MATRIX))
def test_a_head_that_reads_the_last_token_is_recognised(name: str) -> None:
    rows, lengths = weights(name)
    assert len(set(lengths)) > 1
    np.testing.assert_array_equal(rows, np.eye(rows.shape[1])[[length - 1 for length in lengths]])


def test_a_head_that_averages_rows_is_recognised() -> None:
    rows, lengths = weights("modernbert-mean")
    for row, length in zip(rows, lengths, strict=True):
        assert (row[:length] > 0).all()
        assert (row[length:] == 0).all()
        np.testing.assert_allclose(row.sum(), 1)


def test_read_out_by_hand() -> None:
    gradient = torch.tensor([[[1.0, -2.0], [0.0, 0.0], [0.5, 0.5]], [[0.0, 0.0]] * 3])
    expected = [[0.75, 0.0, 0.25], [0.0, 0.0, 0.0]]  # an output that depends on no row: no weights, no NaN
    np.testing.assert_array_equal(read_out(gradient).numpy(), expected)


def test_attention_maps_are_held_for_as_many_documents_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, cases = explained("bert")
    expected = attcat(subject, cases)
    per_map = subject.classifier.depth * subject.classifier.heads
    longest = max(len(case.encoded) for case in cases)
    monkeypatch.setattr(subject.explainer.engine.passes, "attention_budget", 2 * per_map * longest**2)
    seen: list[int] = []
    run = subject.classifier.run
    monkeypatch.setattr(
        subject.classifier, "run", lambda batch, **kw: (seen.append(len(batch.mask)), run(batch, **kw))[1]
    )
    found = attcat(subject, cases)
    assert max(seen) == 2
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
