"""Sanity checks: what is randomised, what noise does, and the numbers, against SciPy, Captum and plain algebra."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from calig.attribution.quadrature import Float64
from calig.evaluation.noise import perturbed
from calig.evaluation.randomising import randomised
from calig.evaluation.sanity import (
    batch_invariance,
    determinism,
    randomisation,
    sensitivity_max,
    spearman,
)
from calig.evaluation.subject import Case, Subject
from calig.records import Attribution
from tests.calig.evaluation.planted import at, cases
from tests.material import zoo
from tests.material.tiers import few

TEXTS = zoo.TEXTS[:3]
NOISY = ("bert", "roberta", "gpt2", "gemma3", "deberta-v2", "electra")


def input_x_gradient(subject: Subject, found: Sequence[Case]) -> list[Float64]:
    """Σ_d h·∂y/∂h at depth 0, of each document by itself."""
    scores = []
    for case in found:
        run = subject.classifier.run(subject.batch([case.encoded]))
        total = subject.explained(run.logits, subject.targets([case])).sum()
        (gradient,) = torch.autograd.grad(total, run.states[0])
        scores.append((gradient * run.states[0]).sum(-1)[0].detach().double().numpy())
    return scores


def score(subject: Subject, found: Sequence[Case]) -> list[dict[str, Float64]]:
    """A method that follows the model, and one that does not look at it."""
    return [
        {"gradient": own, "blind": np.cos(np.arange(len(case.encoded)) * 1.3)}
        for case, own in zip(found, input_x_gradient(subject, found), strict=True)
    ]


@pytest.mark.parametrize("name", few(zoo.FAMILIES, zoo.QUICK, zoo.MATRIX))
def test_every_parameter_is_randomised_once_from_the_head_down(name: str) -> None:
    subject, family = Subject(zoo.explainer(name)), zoo.FAMILIES[name]
    (example,) = cases(subject, zoo.items(name)[:1])
    model = subject.explainer.pretrained.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = {name: value.detach().clone() for name, value in model.named_parameters()}
    done: set[str] = set()
    shares, stages = [], []
    for share, other in randomised(subject, example):
        now = dict(other.explainer.pretrained.model.named_parameters())
        changed = {name for name, old in parameters.items() if not torch.equal(old, now[name])}
        fresh = changed - done
        assert fresh
        for name in fresh:
            assert bool((parameters[name] != now[name]).all())  # every number of it
        stages.append(fresh)
        done |= changed
        shares.append(share)
        assert np.isfinite(other.logits([example.encoded])).all()
    assert done == set(parameters)
    assert shares == [(i + 1) / len(shares) for i in range(len(shares))]
    head, *blocks, rest = stages
    assert any("classif" in name or "score" in name or "head" in name for name in head)
    assert not any("embeddings" in name for name in head)
    if family.written_out is None:
        stem = family.block.split("{}")[0]
        assert len(blocks) == subject.classifier.depth
        for number, stage in zip(reversed(range(len(blocks))), blocks, strict=True):
            assert all(name.startswith(f"{stem}{number}.") for name in stage)
    assert not any("classif" in name for name in rest)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())  # the model itself stays


def test_the_baseline_is_looked_up_in_the_randomised_model() -> None:
    subject = Subject(zoo.explainer("bert"))
    *_, (_, last) = randomised(subject, cases(subject, ["a good film"])[0])
    table = last.explainer.pretrained.model.get_input_embeddings().weight
    assert torch.equal(last.explainer.engine.passes.baseline, table[0])
    assert not torch.equal(last.explainer.engine.passes.baseline, subject.explainer.engine.passes.baseline)


def test_randomisation_moves_what_follows_the_model_and_its_mean_is_over_randomised_models_only() -> None:
    subject = Subject(zoo.explainer("bert"))
    found = cases(subject, zoo.TEXTS[1:4])
    scores = score(subject, found)
    values = randomisation(subject, found, scores, score)
    for case, before, own in zip(found, scores, values, strict=True):
        blind = [v.value for v in own if v.method == "blind"]
        assert blind == pytest.approx([1] * (zoo.BLOCKS + 3))
        stages = [v for v in own if v.method == "gradient" and v.share is not None]
        assert [v.share for v in stages] == pytest.approx([i / 5 for i in range(1, 6)])
        by_hand = [
            spearman(
                np.abs(before["gradient"][case.content]),
                np.abs(input_x_gradient(other, [case])[0][case.content]),
            )
            for _, other in randomised(subject, found[0])
        ]
        assert [v.value for v in stages] == pytest.approx(by_hand)
        assert at(own, method="gradient", share=None) == pytest.approx(np.mean(by_hand))
    assert np.mean([at(own, method="gradient", share=None) for own in values]) < 0.7


def test_spearman_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for size in (2, 5, 40):
        one, other = (rng.integers(0, 4, size) + rng.integers(0, 2) * rng.normal(size=size) for _ in range(2))
        one[:2] = 0, 1
        other[:2] = 0, 1
        assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    assert spearman(np.array([1.0, 2, 3]), np.array([9.0, 8, 7])) == -1
    for one, other in (([1.0], [2.0]), ([1.0, 1], [1.0, 2]), ([1.0, np.nan], [1.0, 2])):
        assert np.isnan(spearman(np.array(one), np.array(other)))


def test_sensitivity_is_captums(monkeypatch: pytest.MonkeyPatch) -> None:
    from captum.metrics import sensitivity_max as captums

    subject = Subject(zoo.explainer("bert"), seed=4)
    (case,) = cases(subject, ["a brilliant film never dull"])
    model = subject.explainer.pretrained.model
    ids = torch.from_numpy(case.encoded.ids.astype(np.int64))[None]  # type: ignore[attr-defined]
    table = model.get_input_embeddings()
    words = table(ids).detach()
    scale = 0.3 * float(table.weight.abs().mean())
    drawn = [np.random.default_rng([4, i]).uniform(-scale, scale, words.shape[1:]) for i in range(6)]

    def explanation(embedded: Any) -> tuple[torch.Tensor]:
        states: list[torch.Tensor] = []
        rows = []
        for row in embedded[0] if isinstance(embedded, tuple) else embedded:
            hook = model.bert.embeddings.register_forward_hook(
                lambda _m, _a, out: states.append(out.detach().requires_grad_()) or states[-1]
            )
            with torch.enable_grad():
                y = model(inputs_embeds=row[None]).logits[0, case.target]
                (gradient,) = torch.autograd.grad(y, states[-1])
            hook.remove()
            rows.append((gradient * states[-1]).sum(-1)[0, 1:-1])
        return (torch.stack(rows),)

    def noise(embedded: torch.Tensor) -> torch.Tensor:
        return embedded + torch.from_numpy(np.stack(drawn))

    expected = float(captums(explanation, words, perturb_func=noise, n_perturb_samples=6))
    scores = score(subject, [case])
    (values,) = sensitivity_max(subject, [case], scores, score, radius=0.3, draws=6)
    assert at(values, method="gradient") == pytest.approx(expected, rel=1e-9)
    assert expected > 1e-3
    assert at(values, method="blind") == 0


@pytest.mark.parametrize("name", few(NOISY, zoo.QUICK, zoo.MATRIX))
def test_noise_moves_the_input_and_leaves_the_baselines_content_and_the_model_as_they_are(name: str) -> None:
    subject = Subject(zoo.explainer(name))
    found = cases(subject, TEXTS)
    batch, engine = subject.batch([case.encoded for case in found]), subject.explainer.engine
    table = subject.explainer.pretrained.model.get_input_embeddings()
    hooks = len(table._forward_hooks)

    def embedded(baseline: Any) -> torch.Tensor:
        return subject.classifier.run(batch, baseline).states[0].detach()

    clean, base = embedded(None), embedded(engine.passes.baseline)
    with perturbed(subject, found, 3, 0.1) as noisy:
        vector = subject.classifier.word_embedding(0)
        clean_moved, base_moved = embedded(None), embedded(engine.passes.baseline)
    assert noisy == found
    real, content = batch.mask.bool(), batch.content
    assert bool((clean != clean_moved).any(-1)[real].all())
    assert torch.equal(base[content], base_moved[content])
    assert torch.equal(vector, subject.classifier.word_embedding(0))
    assert len(table._forward_hooks) == hooks
    assert torch.equal(embedded(None), clean)


def test_a_documents_noise_does_not_depend_on_what_shares_the_batch() -> None:
    subject = Subject(zoo.explainer("bert"))
    found = cases(subject, TEXTS)
    with perturbed(subject, found, 0, 0.2):
        together = subject.logits([case.encoded for case in found])
        alone = np.concatenate([subject.logits([case.encoded]) for case in found])
    assert together == pytest.approx(alone, abs=1e-10)
    assert np.abs(together - [case.logits for case in found]).max() > 1e-3
    with perturbed(subject, found, 1, 0.2):
        assert np.abs(subject.logits([case.encoded for case in found]) - together).max() > 1e-3


def test_an_images_noise_is_in_its_pixels_and_within_the_radius() -> None:
    subject = Subject(zoo.explainer("vit"))
    found = cases(subject, zoo.pixels(zoo.pictures(2)))
    with perturbed(subject, found, 0, 0.1) as noisy:
        for case, other in zip(found, noisy, strict=True):
            moved = (other.encoded.pixels - case.encoded.pixels).abs()  # type: ignore[attr-defined]
            scale = 0.1 * float(case.encoded.pixels.abs().mean())  # type: ignore[attr-defined]
            assert 0.9 * scale < float(moved.max()) <= scale
    (one, _) = sensitivity_max(subject, found, score(subject, found), score, draws=2)
    assert 0 < at(one, method="gradient") < 1


def test_the_engine_itself_explains_under_noise() -> None:
    subject = Subject(zoo.explainer("bert", tolerance=1e-3))
    found = cases(subject, TEXTS)

    def lig(subject: Subject, found: Sequence[Case]) -> list[dict[str, Float64]]:
        results = subject.explainer.attribute(
            [case.document for case in found], [case.target for case in found]
        )
        assert all(isinstance(r, Attribution) and r.completeness_error.max() < 1e-2 for r in results)
        return [{"ca-lig": r.scores.astype(np.float64)} for r in results if isinstance(r, Attribution)]

    before = lig(subject, found)
    near, far = (
        sensitivity_max(subject, found, before, lig, radius=radius, draws=2) for radius in (1e-4, 0.1)
    )
    for one, other in zip(near, far, strict=True):
        assert 0 < at(one, method="ca-lig") < at(other, method="ca-lig")
        assert at(one, method="ca-lig") < 0.05


def test_runs_that_differ_and_batches_that_matter_are_found_out() -> None:
    subject = Subject(zoo.explainer("bert"))
    found = cases(subject, TEXTS)
    runs = iter(range(100))

    def odd(subject: Subject, found: Sequence[Case]) -> list[dict[str, Float64]]:
        run = next(runs)
        return [
            {
                "steady": np.arange(len(case.encoded)) + 1.0,
                "drifts": np.where(case.content, 4.0 + run, 1e6 * run),  # special tokens are not looked at
                "huddles": np.full(len(case.encoded), 2.0 * len(found)),
            }
            for case in found
        ]

    scores = odd(subject, found)
    again = determinism(subject, found, scores, odd)
    alone = batch_invariance(subject, found, scores, odd)
    for own in again:
        assert [at(own, method=m, metric="determinism") for m in ("steady", "drifts", "huddles")] == [
            0,
            0.25,
            0,
        ]
    for own in alone:
        assert at(own, method="steady") == 0
        assert at(own, method="huddles") == pytest.approx(2 / 3)


def test_scores_that_are_not_finite_have_no_number() -> None:
    subject = Subject(zoo.explainer("bert"))
    found = cases(subject, TEXTS[:1])

    def broken(subject: Subject, found: Sequence[Case]) -> list[dict[str, Float64]]:
        return [{"m": np.full(len(case.encoded), np.nan)} for case in found]

    scores = broken(subject, found)
    for check in (randomisation, sensitivity_max, determinism, batch_invariance):
        (values,) = check(subject, found, scores, broken)
        assert values
        assert all(np.isnan(v.value) for v in values)


def test_randomising_is_seeded() -> None:
    def last(seed: int) -> torch.Tensor:
        subject = Subject(zoo.explainer("bert"), seed=seed)
        *_, (_, other) = randomised(subject, cases(subject, ["a good film"])[0])
        return copy.deepcopy(other.explainer.pretrained.model.get_input_embeddings().weight.detach())

    assert torch.equal(last(1), last(1))
    assert not torch.equal(last(1), last(2))
