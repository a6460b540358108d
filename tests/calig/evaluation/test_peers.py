"""What holds for every peer, whatever it computes, on an encoder, decoders and a model of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from calig.evaluation import peers
from calig.evaluation.peers import PEERS
from calig.evaluation.subject import Case
from tests.calig.evaluation.peer_cases import explained
from tests.material.tiers import few

NAMES = (
    *("input-x-gradient", "smoothgrad", "gradient-shap", "deeplift", "lime", "kernel-shap", "occlusion"),
    *("attention-rollout", "attention-x-gradient", "attcat", "attention-grad-cam", "random"),
)
MODELS = ("bert", "distilbert", "albert", "gpt2", "opt", "vit")
EVERY = "every method on every kind of model"
APPLY = [(m, n) for m in MODELS for n in NAMES if n != "deeplift" or m == "opt"]
PICTURES = [(m, n) for m in ("beit", "siglip") for n in NAMES if n != "deeplift"]
QUICK = [
    *(("bert", n) for n in NAMES if n != "deeplift"),
    *(("gpt2", n) for n in ("input-x-gradient", "lime", "attcat")),
    *(("vit", n) for n in ("smoothgrad", "occlusion", "attention-rollout")),
    ("opt", "deeplift"),
]
"""Every method once, and each kind of method on each kind of model."""
DRAWN = ("smoothgrad", "gradient-shap", "lime", "kernel-shap", "random")


def scores(name: str, subject: Any, cases: Any) -> list[np.ndarray]:
    return PEERS[name].explain(subject, cases)


def close(found: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert np.linalg.norm(ours - theirs) <= tolerance * np.linalg.norm(theirs)


def test_the_registry_has_the_names_of_the_warehouse() -> None:
    assert tuple(PEERS) == NAMES
    assert all(peer.name == name and peer.title for name, peer in PEERS.items())
    assert all(peer.reference[-4:].isdigit() for name, peer in PEERS.items() if name != "random")


@pytest.mark.parametrize(("model", "name"), few(APPLY + PICTURES, QUICK, EVERY))
def test_a_document_has_scores_that_do_not_depend_on_what_else_is_explained(model: str, name: str) -> None:
    subject, cases = explained(model, samples=24)
    assert PEERS[name].refusal(subject) is None
    together = scores(name, subject, cases)
    assert [s.shape for s in together] == [(len(case.encoded),) for case in cases]
    assert all(s.dtype == np.float64 and np.isfinite(s).all() and np.abs(s).max() > 0 for s in together)
    alone = [scores(name, subject, [case])[0] for case in reversed(cases)]
    close(together, alone[::-1], 1e-5)


@pytest.mark.parametrize(("model", "name"), few(APPLY, QUICK, EVERY))
def test_explaining_leaves_random_numbers_and_the_model_as_they_were(model: str, name: str) -> None:
    subject, cases = explained(model, samples=24)
    module = subject.classifier.model
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()]
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    scores(name, subject, cases[:1])
    assert (torch.rand(1), np.random.rand()) == expected
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()] == hooks
    assert not any(p.requires_grad or p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("name", DRAWN)
def test_draws_depend_on_the_seed_and_the_document_alone(name: str) -> None:
    subject, cases = explained("bert", samples=24)
    first = scores(name, subject, cases[:1])[0]
    torch.manual_seed(11)
    np.random.seed(11)
    np.testing.assert_array_equal(scores(name, subject, cases[:1])[0], first)
    other, same = explained("bert", samples=24, seed=1)
    assert not np.allclose(scores(name, other, same[:1])[0], first)


@pytest.mark.parametrize("model", few(["bert", "opt", "vit"], ["bert"], EVERY))
@pytest.mark.parametrize("name", NAMES)
def test_batches_stay_within_the_token_budget(model: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = 40
    subject, cases = explained(model, samples=24, token_budget=budget)
    if PEERS[name].refusal(subject):
        assert (name, model) != ("deeplift", "opt")
        return
    seen: list[tuple[int, int]] = []
    answer = subject.classifier.answer

    def watched(batch: Any) -> torch.Tensor:
        seen.append(tuple(batch.mask.shape))
        return answer(batch)

    monkeypatch.setattr(subject.classifier, "answer", watched)
    scores(name, subject, cases)
    least = 2 if name == "deeplift" else 1  # a document and its baseline go together
    assert all(rows <= least or rows * length <= budget for rows, length in seen)
    assert seen or name == "random"


@pytest.mark.parametrize("name", ["attention-rollout", "attention-x-gradient"])
def test_methods_without_a_sign_are_never_negative(name: str) -> None:
    subject, cases = explained("bert")
    assert all((s >= 0).all() for s in scores(name, subject, cases))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("attention-rollout", "attention-x-gradient")])
def test_the_others_speak_for_and_against(name: str) -> None:
    subject, cases = explained("opt")
    found = np.concatenate(scores(name, subject, cases))
    assert (found > 0).any()
    assert (found < 0).any()


@pytest.mark.parametrize("name", ["input-x-gradient", "attcat", "attention-grad-cam"])
def test_a_margin_is_explained_where_the_method_asks_for_one(name: str) -> None:
    """These are linear in the output near the input: a margin's scores are the difference of two logits'."""
    margin, cases = explained("bert", output="margin")
    logit, same = explained("bert")
    second = [
        Case(case.document, case.encoded, int(np.argsort(case.logits)[-2]), case.logits) for case in same
    ]
    firsts, seconds = scores(name, logit, same), scores(name, logit, second)
    close(scores(name, margin, cases), [a - b for a, b in zip(firsts, seconds, strict=True)], 1e-5)


@pytest.mark.parametrize(("name", "missing"), [("lime", "scikit-learn"), ("smoothgrad", "captum")])
def test_a_library_that_is_not_installed_is_named(
    name: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, _ = explained("bert", texts=["a good film"])
    module = {"scikit-learn": "sklearn"}.get(missing, missing)
    monkeypatch.setattr(peers, "find_spec", lambda name: None if name == module else object())
    assert PEERS[name].refusal(subject) == f"{missing} is missing: pip install 'calig[evaluate]'"
    monkeypatch.setattr(peers, "find_spec", lambda _name: None)
    assert [n for n in NAMES if PEERS[n].refusal(subject) is None] == [
        "input-x-gradient",
        "attention-rollout",
        "attention-x-gradient",
        "attcat",
        "attention-grad-cam",
        "random",
    ]
