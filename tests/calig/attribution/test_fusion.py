"""The fusion, once more in plain Python."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calig.attribution.fusion import agreement, column, depth_weights, rollout, trace
from tests.material import zoo
from tests.material.fuzz import examples

Float = npt.NDArray[np.float32]


def by_hand(ig: Float, context: Float, norms: Float, weight: float) -> list[list[float]]:
    fused = []
    for block in range(len(context)):
        size = sum(abs(float(v)) for v in ig[block])
        row = []
        for token in range(len(context[block])):
            first = float(ig[block][token]) / size if size else 0.0
            second = float(context[block][token]) / float(norms[block]) if norms[block] else 0.0
            row.append((1 - weight) * first + weight * second)
        fused.append(row)
    return fused


def random(seed: int, blocks: int, tokens: int) -> tuple[Float, Float, Float]:
    rng = np.random.default_rng(seed)
    ig = rng.normal(size=(blocks + 1, tokens)).astype(np.float32)
    context = rng.normal(size=(blocks, tokens)).astype(np.float32)
    return ig, context, (np.abs(context).sum(axis=1) * 1.5).astype(np.float32)


@examples(50)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 9), st.floats(0, 1))
def test_column_is_what_the_definition_says(seed: int, blocks: int, tokens: int, weight: float) -> None:
    ig, context, norms = random(seed, blocks, tokens)
    found = column(ig, context, norms, weight)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand(ig, context, norms, weight), rtol=1e-5, atol=1e-7)


def test_the_head_s_input_is_not_fused() -> None:
    ig, context, norms = random(0, 3, 4)
    before = column(ig, context, norms, 0.5)
    ig[-1] = 1e9
    assert np.array_equal(column(ig, context, norms, 0.5), before)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_a_zero_norm_gives_a_zero_term(weight: float) -> None:
    ig, context, norms = random(1, 2, 3)
    ig[0], norms[1], context[1] = 0, 0, 0
    found = column(ig, context, norms, weight)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, by_hand(ig, context, norms, weight), rtol=1e-5, atol=1e-7)
    if weight == 0:
        assert (found[0] == 0).all()
    if weight == 1:
        assert (found[1] == 0).all()


def test_a_weight_of_zero_is_ig_alone_and_of_one_context_alone() -> None:
    ig, context, norms = random(2, 3, 5)
    blind = column(ig, np.zeros_like(context), norms, 0.0)
    assert np.array_equal(column(ig, context, norms, 0.0), blind)
    np.testing.assert_allclose(np.abs(blind).sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(column(ig * 3, context, norms, 1.0), context / norms[:, None], rtol=1e-6)


def unit(row: list[float]) -> list[float]:
    size = math.sqrt(sum(v * v for v in row))
    return [v / size for v in row] if size else row


def weights_by_hand(ig: Float, context: Float, special: list[bool]) -> list[float]:
    content = [t for t, s in enumerate(special) if not s]
    rows = [unit([float(row[t]) for t in content]) for row in ig[:-1]]
    given = unit([sum(float(row[t]) for row in context) for t in content])
    judge = unit([a + b for a, b in zip(rows[0], given, strict=True)])
    squares = [max(0.0, sum(v * w for v, w in zip(row, judge, strict=True))) ** 2 for row in rows]
    return [s / sum(squares) for s in squares] if sum(squares) else [1 / len(squares)] * len(squares)


def agreed_by_hand(
    ig: Float, context: Float, heads: int, special: list[bool], weight: float
) -> list[list[float]]:
    return [
        [
            share * ((1 - weight) * float(i) + weight * heads * float(c))
            for i, c in zip(ig[block], context[block], strict=True)
        ]
        for block, share in enumerate(weights_by_hand(ig, context, special))
    ]


@examples(50)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(3, 9), st.floats(0, 1))
def test_agreement_is_what_the_definition_says(seed: int, blocks: int, tokens: int, weight: float) -> None:
    ig, context, _ = random(seed, blocks, tokens)
    special = [t == 0 or t == tokens - 1 for t in range(tokens)]
    found = agreement(ig, context, 12, np.array(special), weight)
    assert (found.shape, found.dtype) == ((blocks, tokens), np.float32)
    np.testing.assert_allclose(found, agreed_by_hand(ig, context, 12, special, weight), rtol=1e-5, atol=1e-6)
    assert depth_weights(ig, context, np.array(special)).sum() == pytest.approx(1)


def test_a_depth_that_disagrees_with_its_judge_counts_for_nothing() -> None:
    ig = np.array([[9, 1, 2], [9, -1, -2], [-9, 2, 4], [0, 0, 0]], dtype=np.float32)
    nothing = np.zeros((3, 3), np.float32)
    shares = depth_weights(ig, nothing, np.array([True, False, False]))
    np.testing.assert_allclose(shares, [0.5, 0, 0.5], atol=1e-12)


def test_attention_gradients_are_half_of_the_judge_whatever_their_size() -> None:
    """Where depth 0 alone says another thing than all else does, it no longer decides alone."""
    ig = np.array([[1, 0], [0, 1], [0, 2], [0, 0]], dtype=np.float32)
    for size in (1e-3, 1, 1e3):
        context = np.array([[0, 3], [0, 2], [1, -1]], dtype=np.float32) * size  # in all (1, 4), nearly (0, 1)
        judge = np.array([1, 0]) + np.array([1, 4]) / 17**0.5
        squares = (judge / np.linalg.norm(judge))[[0, 1, 1]] ** 2
        shares = depth_weights(ig, context, np.zeros(2, bool))
        np.testing.assert_allclose(shares, squares / squares.sum(), rtol=1e-6)


def test_depths_without_any_relevance_count_alike() -> None:
    nothing = np.zeros((5, 3), np.float32)
    np.testing.assert_allclose(depth_weights(nothing, nothing[1:], np.zeros(3, bool)), [0.25] * 4)


def test_without_context_agreement_keeps_completeness() -> None:
    ig, context, _ = random(3, 4, 6)
    ig += (2.0 - ig.sum(axis=1, keepdims=True)) / 6  # Σ LIG = Δy = 2 at every depth
    assert agreement(ig, context, 12, np.zeros(6, bool), 0.0).sum() == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize("fusion", ["agreement", "column"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_an_attribution_s_scores_are_the_sum_over_blocks(fusion: str, weight: float) -> None:
    (a,) = zoo.explainer("roberta", "float32", fusion=fusion, weight=weight).explain(["not bad"])
    assert a.heads == zoo.HEADS
    expected = np.array(
        by_hand(a.layer_ig, a.context, a.context_norm, weight)
        if fusion == "column"
        else agreed_by_hand(a.layer_ig, a.context, zoo.HEADS, a.is_special.tolist(), weight)
    )
    np.testing.assert_allclose(a.relevance, expected, rtol=1e-5, atol=1e-7)
    for token, score in enumerate(a.scores):
        assert float(score) == pytest.approx(math.fsum(expected[:, token]), abs=1e-6)


def test_rollout_is_the_expanded_product_of_blocks() -> None:
    """Two blocks: (I + C₂)(I + C₁) − I = C₁ + C₂ + C₂C₁, row by row."""
    rng = np.random.default_rng(5)
    ig, maps = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(2, 4, 4)).astype(np.float32)
    read = np.array([0.5, 0.5, 0, 0], dtype=np.float32)
    c = [
        0.75 * np.diag(one / np.abs(one).max()) + 0.25 * two / np.abs(two).max()
        for one, two in zip(ig[:2].astype(float), maps.astype(float), strict=True)
    ]
    expected = 0.5 * (c[0] + c[1] + c[1] @ c[0])[:2].sum(axis=0)
    np.testing.assert_allclose(rollout(ig, maps, read, 0.25), expected, rtol=1e-5, atol=1e-6)


def test_rollout_of_nothing_is_nothing() -> None:
    zeros = np.zeros((3, 4), np.float32), np.zeros((2, 4, 4), np.float32)
    assert not rollout(*zeros, np.full(4, 0.25, np.float32), 0.5).any()


def test_trace_hands_relevance_back_along_positive_attention() -> None:
    """Block 1: token 0 attends to 1 alone, token 1 only negatively, which leaves it where it is."""
    ig = np.array([[1, 10], [4, 8], [99, 99]], dtype=np.float32)
    maps = np.array([[[-1, 3], [-2, 0]], [[1, 1], [1, 1]]], dtype=np.float32)
    at_one = [4 * 0.5, 8 + 4 * 0.5]  # of depth 1, half of token 0's goes to token 1
    expected = [(1 + at_one[0]) / 2, (10 + at_one[1]) / 2]
    np.testing.assert_allclose(trace(ig, maps, 0.5), expected, rtol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_trace_keeps_completeness(weight: float) -> None:
    rng = np.random.default_rng(6)
    ig = rng.normal(size=(5, 7)).astype(np.float32)
    ig += (3.0 - ig.sum(axis=1, keepdims=True)) / 7  # Σ LIG = Δy = 3 at every depth
    maps = rng.normal(size=(4, 7, 7)).astype(np.float32)
    found = trace(ig, maps, weight)
    assert found.sum() == pytest.approx(3.0, abs=1e-5)
    if weight == 0:
        np.testing.assert_allclose(found, ig[:-1].mean(axis=0), rtol=1e-5, atol=1e-6)
