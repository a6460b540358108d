"""Perturbation methods derived a second way: loops over the model itself, exact Shapley values, a ridge by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from calig.evaluation.perturbation_peers import Game, kernel_shap, lime, occlusion
from calig.evaluation.subject import Case, Subject
from calig.models.images import blurred
from tests.calig.evaluation.peer_cases import explained
from tests.material import zoo
from tests.material.tiers import few

Float64 = npt.NDArray[np.float64]
FAMILIES = ("bert", "roberta", "distilbert", "electra", "gpt2", "gemma")
TEXTS = ("a good film", "the cast is brilliant but the film is dull , never warm", "unheard of !")


def shared(case: Case, by_unit: Sequence[float]) -> Float64:
    """(T,) a score per unit, shared out over its tokens by counting them."""
    units = case.units.tolist()
    return np.array([0.0 if u < 0 else by_unit[u] / units.count(u) for u in units])


def replaced(subject: Subject, case: Case, family: str, unit: int | None, token: int) -> float:
    """The model's own answer, its ids changed; positions and the pooled row stay the text's."""
    ids = subject.batch([case.encoded]).inputs["input_ids"].clone()
    mask = torch.ones_like(ids)
    numbers = zoo.positions(zoo.TEXT_FAMILIES[family], ids, mask)
    ids[0, torch.from_numpy(case.units == unit)] = token
    model = subject.classifier.model
    return float(zoo.answer(zoo.TEXT_FAMILIES[family], model, ids, mask, numbers)[0, case.target])


@pytest.mark.parametrize(
    "family",
    few(FAMILIES, ["roberta", "gpt2"], zoo.MATRIX),
)
@pytest.mark.parametrize("has_mask", [True, False])
def test_occlusion_of_words_is_what_a_loop_over_them_gives(family: str, has_mask: bool) -> None:
    subject, cases = explained(family, TEXTS, pretrained=zoo.load(family))
    tokenizer: Any = subject.explainer.pretrained.tokenizer
    stand_in = tokenizer.mask_token_id if has_mask else tokenizer.pad_token_id
    assert stand_in is not None
    if not has_mask:
        tokenizer.mask_token = None
    several = False
    for case, found in zip(cases, occlusion(subject, cases), strict=True):
        whole = replaced(subject, case, family, None, stand_in)
        lost = [
            whole - replaced(subject, case, family, unit, stand_in) for unit in range(case.units.max() + 1)
        ]
        np.testing.assert_allclose(found, shared(case, lost), atol=2e-5 * np.abs(lost).max())
        several |= case.content.sum() > len(lost)
    assert several  # a word of more than one token


@pytest.mark.parametrize("baseline", ["zero", "blur"])
def test_occlusion_of_patches_is_what_a_loop_over_them_gives(baseline: str) -> None:
    subject, cases = explained("vit", baseline=baseline)
    model, size = subject.classifier.model, zoo.PATCH
    pictures = zoo.pixels(zoo.pictures(3))
    assert subject.samples >= 2 * 9
    for i, (case, found) in enumerate(zip(cases, occlusion(subject, cases), strict=True)):
        whole = pictures[i : i + 1]
        other = torch.zeros_like(whole) if baseline == "zero" else blurred(whole)
        expected = [0.0]  # [CLS]
        for row in range(0, zoo.SIDE, size):
            for column in range(0, zoo.SIDE, size):
                without = whole.clone()
                part = (..., slice(row, row + size), slice(column, column + size))
                without[part] = other[part]
                both = model(pixel_values=torch.cat([whole, without])).logits[:, case.target]
                expected.append(float(both[0] - both[1]))
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_an_absent_patch_may_be_the_mask_token() -> None:
    subject, cases = explained("dinov2", baseline="mask")
    model = subject.classifier.model
    pictures = zoo.pixels(zoo.pictures(3))
    for i, (case, found) in enumerate(zip(cases, occlusion(subject, cases), strict=True)):
        hidden = torch.cat([torch.zeros(1, 9), torch.eye(9)]).bool()
        embed = model.dinov2.embeddings
        with torch.no_grad():
            state = embed(pictures[i : i + 1].repeat(10, 1, 1, 1), bool_masked_pos=hidden)
            batch = subject.batch([case.encoded] * 10)
            logits = subject.classifier.run_from(0, state, batch)[:, case.target]
        expected = np.concatenate([[0.0], (logits[0] - logits[1:]).numpy()])
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def played(monkeypatch: pytest.MonkeyPatch, value: Callable[[Float64], float]) -> list[Float64]:
    """Put a game of our own in the model's place; returns the coalitions that will be asked for, in order."""
    seen: list[Float64] = []

    def outputs(_game: Game, presence: torch.Tensor) -> torch.Tensor:
        rows = presence.numpy().astype(np.float64)
        assert np.isin(rows, [0, 1]).all()
        seen.extend(rows)
        return torch.tensor([value(row) for row in rows])

    monkeypatch.setattr(Game, "outputs", outputs)
    return seen


def test_kernel_shap_of_a_linear_game_is_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.linspace(-1, 2, 12)
    subject, (case,) = explained("bert", ["a good film full of good bad dull and brilliant ideas ."])
    assert case.units.max() == 11
    seen = played(monkeypatch, lambda presence: 3 + float(presence @ weights))
    (found,) = kernel_shap(subject, [case])
    np.testing.assert_allclose(found[case.content], weights, atol=1e-4)
    assert (found[~case.content] == 0).all()
    assert len(seen) == subject.samples


def shapley(value: Callable[[Float64], float], players: int) -> Float64:
    """By definition: what each adds when it comes, on average over all orders."""
    found, orders = np.zeros(players), list(permutations(range(players)))
    for order in orders:
        present = np.zeros(players)
        for player in order:
            before = value(present)
            present[player] = 1
            found[player] += (value(present) - before) / len(orders)
    return found


def test_kernel_shap_comes_to_shapley_values(monkeypatch: pytest.MonkeyPatch) -> None:
    def value(x: Float64) -> float:
        return float(1 + 2 * x[0] * x[1] - x[1] * x[2] * x[3] + x[3])

    subject, (case,) = explained("bert", ["a good dull film"], samples=6000)
    played(monkeypatch, value)
    (found,) = kernel_shap(subject, [case])
    expected = shapley(value, 4)
    np.testing.assert_allclose(expected, [1, 1 - 1 / 3, -1 / 3, 1 - 1 / 3])
    np.testing.assert_allclose(found[case.content], expected, atol=0.05)
    np.testing.assert_allclose(found.sum(), value(np.ones(4)) - value(np.zeros(4)), atol=1e-3)


@pytest.mark.parametrize("family", ["bert", "gpt2", "vit"])
def test_kernel_shap_sums_to_what_the_document_has_over_nothing(family: str) -> None:
    subject, cases = explained(family, TEXTS)
    for case, found in zip(cases, kernel_shap(subject, cases), strict=True):
        game = Game.of(subject, case)
        whole, nothing = game.outputs(torch.tensor([[1.0] * game.groups, [0.0] * game.groups])).tolist()
        assert abs(found.sum() - (whole - nothing)) < 5e-3 * np.abs(found).sum()


@pytest.mark.parametrize("method", [lime, kernel_shap, occlusion])
def test_a_document_of_one_word_has_all_scores_on_it(method: Callable[..., list[Float64]]) -> None:
    subject, (case,) = explained("bert", ["brilliant"])
    (found,) = method(subject, [case])
    (expected,) = occlusion(subject, [case])
    assert found[case.content].shape == (1,)
    assert np.abs(expected).max() > 0
    if method is lime:  # shrunk by its ridge
        assert 0 < found[case.content][0] / expected[case.content][0] < 1
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_lime_is_a_weighted_ridge_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, (case,) = explained("bert", ["the film is dull , never warm"])
    rng = np.random.default_rng(4)
    quadratic = rng.normal(size=(7, 7))
    seen = played(monkeypatch, lambda x: float(x @ quadratic @ x))
    (found,) = lime(subject, [case])
    assert len(seen) == subject.samples
    x = np.array(seen)
    y = np.einsum("ni,ij,nj->n", x, quadratic, x)
    cosine = x.sum(axis=1) / np.maximum(np.sqrt(x.sum(axis=1) * 7), 1e-8)
    weight = np.exp(-((1 - cosine) ** 2) / (2 * 0.25**2))
    centred = x - np.average(x, axis=0, weights=weight)
    target = y - np.average(y, weights=weight)
    gram = (centred * weight[:, None]).T @ centred + np.eye(7)
    expected = np.linalg.solve(gram, (centred * weight[:, None]).T @ target)
    np.testing.assert_allclose(found[case.content], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", [lime, kernel_shap, occlusion])
def test_the_planted_word_is_found(
    method: Callable[..., list[Float64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, (case,) = explained("bert", ["the cast is brilliant but the film is dull"])
    planted = case.encoded.tokens.index("dull")
    played(monkeypatch, lambda x: float(-5 * x[-1] + 0.5 * x[0]))
    (found,) = method(subject, [case])
    assert int(np.abs(found).argmax()) == planted
    assert found[planted] < 0


def test_units_are_pooled_where_samples_are_few() -> None:
    subject, (case,) = explained("bert", ["a good unheard dull film ."], samples=5)  # two groups of six words
    game = Game.of(subject, case)
    assert case.units.tolist() == [-1, 0, 1, *[2] * 7, 3, 4, 5, -1]
    assert game.group.tolist() == [-1, 0, 0, *[0] * 7, 1, 1, 1, -1]
    third = 1 / 3
    expected = [0, third, third, *[third / 7] * 7, third, third, third, 0]
    np.testing.assert_allclose(game.share, expected)
    for method in (lime, kernel_shap, occlusion):
        (found,) = method(subject, [case])
        scores = found[[1, 2, 10, 11, 12]]
        np.testing.assert_allclose(scores, scores[[0, 0, 2, 2, 2]])
        np.testing.assert_allclose(found[3:10], scores[0] / 7)
        assert scores[0] != scores[2]
    few, (same,) = explained("bert", ["a good film"], samples=1)
    assert Game.of(few, same).groups == 1


def test_groups_are_of_nearly_one_size() -> None:
    subject, cases = explained("bert", samples=8)
    for case in cases:
        game = Game.of(subject, case)
        words = [set(case.units[game.group == g].tolist()) for g in range(game.groups)]
        assert game.groups == min(4, case.units.max() + 1)
        assert [u for group in words for u in sorted(group)] == list(range(case.units.max() + 1))
        assert max(map(len, words)) - min(map(len, words)) <= 1
        totals = [game.share[game.group == g].sum() for g in range(game.groups)]
        np.testing.assert_allclose(totals, 1)
