"""The fusion, once more in plain Python."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calig.attribution.fusion import column
from tests.calig import zoo

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


@settings(max_examples=50, deadline=None)
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


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_an_attribution_s_scores_are_the_sum_over_blocks(weight: float) -> None:
    (a,) = zoo.explainer("roberta", "float32", weight=weight).explain(["not bad"])
    expected = np.array(by_hand(a.layer_ig, a.context, a.context_norm, weight))
    np.testing.assert_allclose(a.relevance, expected, rtol=1e-5, atol=1e-7)
    for token, score in enumerate(a.scores):
        assert float(score) == pytest.approx(math.fsum(expected[:, token]), abs=1e-6)
