"""Gradient methods derived a second way: Captum on the modules themselves, own draws, integrals, secants."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerGradientXActivation
from torch import Tensor, nn

from calig.attribution.explainer import Explainer
from calig.attribution.method import Method
from calig.evaluation import gradient_peers
from calig.evaluation.gradient_peers import (
    deeplift,
    gradient_shap,
    input_x_gradient,
    no_rescale_rule,
    smoothgrad,
)
from calig.evaluation.subject import Case, Subject
from calig.models.loading import load_pretrained
from calig.records import Document
from tests.calig.evaluation.peer_cases import explained
from tests.material import zoo
from tests.material.tiers import few

FAMILIES = ("bert", "distilbert", "electra", "albert", "gpt2", "gemma", "vit")
pytestmark = pytest.mark.usefixtures("in_double")


def relative(found: Any, expected: Any) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("name", few(FAMILIES, zoo.QUICK, zoo.MATRIX))
def test_input_x_gradient_is_captums_at_the_embeddings(name: str) -> None:
    subject, cases = explained(name)
    model = subject.classifier.model
    path = zoo.FAMILIES[name].embeddings
    for case, found in zip(cases, input_x_gradient(subject, cases), strict=True):
        inputs = dict(subject.batch([case.encoded]).inputs)
        main = inputs.pop(model.main_input_name)

        def forward(given: Tensor, inputs: dict[str, Tensor] = inputs) -> Tensor:
            return model(**{model.main_input_name: given}, **inputs).logits

        expected = LayerGradientXActivation(forward, model.get_submodule(path)).attribute(
            main, target=case.target
        )
        expected = expected[0] if isinstance(expected, tuple) else expected
        assert relative(found, expected[0].sum(-1).detach().numpy()) < 1e-12


def test_input_x_gradient_by_hand() -> None:
    subject, cases = explained("bert")
    model = subject.classifier.model
    for case, found in zip(cases, input_x_gradient(subject, cases), strict=True):
        inputs = subject.batch([case.encoded]).inputs
        state = model.bert.embeddings(inputs["input_ids"], inputs["token_type_ids"]).detach()
        state.requires_grad_()
        model.classifier(model.bert.pooler(model.bert.encoder(state)[0]))[0, case.target].backward()
        assert state.grad is not None
        assert relative(found, (state.grad * state.detach())[0].sum(-1).numpy()) < 1e-12


@pytest.mark.parametrize("name", ["bert", "gpt2", "vit"])
def test_smoothgrad_with_no_noise_to_speak_of_is_input_x_gradient(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, cases = explained(name)
    plain = input_x_gradient(subject, cases)
    noisy = smoothgrad(subject, cases)
    monkeypatch.setattr(gradient_peers, "NOISE", 1e-7)
    for one, other, away in zip(smoothgrad(subject, cases), plain, noisy, strict=True):
        assert relative(one, other) < 1e-4
        assert relative(away, other) > 1e-2


def test_smoothgrad_is_the_mean_gradient_under_noise_of_its_own_range(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gradient_peers, "SAMPLES", 3000)
    subject, cases = explained("bert")
    case = cases[0]
    (found,) = smoothgrad(subject, [case])
    state = subject.classifier.run(subject.batch([case.encoded])).states[0].detach()
    deviation = 0.15 * float(state.max() - state.min())
    noise = torch.from_numpy(np.random.default_rng(1).normal(0, deviation, (3000, *state.shape[1:])))
    noisy = (state + noise).requires_grad_()
    logits = subject.classifier.run_from(0, noisy, subject.batch([case.encoded] * 3000))
    (gradients,) = torch.autograd.grad(logits[:, case.target].sum(), noisy)
    each = (gradients * state).sum(-1).numpy()
    standard_error = each.std(axis=0) * (2 / 3000) ** 0.5
    assert (np.abs(found - each.mean(axis=0)) < 5 * standard_error).all()
    assert relative(found, each.mean(axis=0)) < 0.3


def test_gradient_shap_comes_to_integrated_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one baseline its expectation is the path integral; `SAMPLES` draws of α are a Monte Carlo sum of it."""
    monkeypatch.setattr(gradient_peers, "SAMPLES", 2000)
    subject, cases = explained("bert")
    for case, found in zip(cases, gradient_shap(subject, cases), strict=True):
        attribution = subject.explainer.attribute([case.document])[0]
        assert attribution.target == case.target
        assert relative(found, attribution.layer_ig[0]) < 0.1
        change = attribution.logit - attribution.baseline_logit
        assert abs(found.sum() - change) < 0.1 * np.abs(found).sum()


def test_gradient_shap_has_the_same_draws_in_smaller_batches() -> None:
    """Chunks of draws are weighed by their number: 50 draws in chunks of 7 average to something near 50 in one."""
    _, cases = explained("vit")
    length = len(cases[0].encoded)
    small, same = explained("vit", token_budget=7 * length)
    large, _ = explained("vit", token_budget=50 * length)
    one, other = gradient_shap(small, same[:1])[0], gradient_shap(large, cases[:1])[0]
    assert relative(one, other) < 0.3


class Secant(torch.autograd.Function):
    """An activation of [inputs; baselines] whose gradient is (σ(x) − σ(x')) / (x − x'): the rescale rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Any) -> Tensor:
        ctx.save_for_backward(x)
        ctx.function = function
        return function(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        own, base = x.chunk(2)
        slope = (ctx.function(own) - ctx.function(base)) / (own - base)
        with torch.enable_grad():
            point = own.detach().requires_grad_()
            (local,) = torch.autograd.grad(ctx.function(point).sum(), point)
        slope = torch.where((own - base).abs() < 1e-10, local, slope)
        return gradient * torch.cat([slope, slope]), None


def relu_bert(folder: Path) -> tuple[Subject, list[Case]]:
    zoo.save("bert", folder, hidden_act="relu")
    subject = Subject(Explainer(load_pretrained(str(folder), dtype="float64"), Method()))
    cases = subject.cases([Document(text, text) for text in zoo.TEXTS])
    return subject, [case for case in cases if isinstance(case, Case)]


@pytest.mark.parametrize("name", ["opt", "bert with ReLU"])
def test_deeplift_is_the_gradient_with_secants_for_activations(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    subject, cases = explained("opt") if name == "opt" else relu_bert(tmp_path)
    assert no_rescale_rule(subject) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = deeplift(subject, cases)
    for case, ours in zip(cases, found, strict=True):
        plain = difference_times_gradient(subject, case)
        with monkeypatch.context() as patched:
            patched.setattr(nn.ReLU, "forward", lambda _self, x: Secant.apply(x, torch.relu))
            patched.setattr(nn.Tanh, "forward", lambda _self, x: Secant.apply(x, torch.tanh))
            expected = difference_times_gradient(subject, case)
        assert relative(ours, expected) < 1e-9
        assert relative(ours, plain) > 1e-2


def difference_times_gradient(subject: Subject, case: Case) -> Any:
    """(T,) Σ_d (h − h') ⊙ ∂y/∂h at depth 0, while the model runs on [input; baseline]."""
    classifier, both = subject.classifier, subject.batch([case.encoded] * 2)
    with torch.no_grad():
        own = classifier.run(both).states[0][:1]
        base = classifier.run(both, subject.explainer.engine.passes.baseline).states[0][:1]
    state = torch.cat([own, base]).requires_grad_()
    (gradient,) = torch.autograd.grad(classifier.run_from(0, state, both)[:, case.target].sum(), state)
    return ((own - base) * gradient[:1])[0].sum(-1).numpy()


def test_deeplift_is_refused_where_its_rule_says_nothing() -> None:
    for name, kind in (("bert", "GELUActivation"), ("llama", "SiLUActivation"), ("vit", "GELUActivation")):
        subject, _ = explained(name)
        assert no_rescale_rule(subject) == (
            f"DeepLIFT has no rule for {kind}: only the gradient times the difference would be left; "
            "use gradient-shap or ig"
        )
    subject, _ = explained("albert")
    assert "runs twice" in str(no_rescale_rule(subject))
