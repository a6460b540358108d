"""A document's result is its own: it does not depend on batch-mates, order, budget, or on being asked twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from calig.attribution.explainer import Explainer
from calig.records import Attribution
from tests.material import zoo
from tests.material.tiers import few

LONG = "the cast is brilliant , " * 5 + "but the film is dull ."
FIELDS = ("layer_ig", "context", "context_norm", "relevance", "scores", "logits")
CLOSE = {"float32": 1e-5, "float64": 1e-10}


def far(a: Attribution, b: Attribution) -> float:
    """Worst relative L2 distance over what is stored per depth or block.

    A row much below the others is measured against their mean: at the last depth of a pooling model it is one
    number, the change of the logit, which may nearly vanish by cancellation.
    """
    worst = 0.0
    for field in FIELDS:
        one, other = np.atleast_2d(getattr(a, field)), np.atleast_2d(getattr(b, field))
        assert one.shape == other.shape
        gap = np.linalg.norm(one.astype(np.float64) - other, axis=-1)
        norm = np.linalg.norm(one.astype(np.float64), axis=-1)
        worst = max(worst, float((gap / np.maximum(norm, norm.mean())).max()))
    return worst


def same(found: Sequence[Attribution], expected: Sequence[Attribution], tolerance: float) -> None:
    for a, b in zip(found, expected, strict=True):
        assert (a.key, a.tokens, a.target) == (b.key, b.tokens, b.target)
        assert a.nodes.tolist() == b.nodes.tolist()
        assert far(a, b) < tolerance


def bits(a: Attribution) -> list[bytes]:
    arrays = [getattr(a, f) for f in (*FIELDS, "completeness_error", "error_estimate", "converged", "nodes")]
    return [array.tobytes() for array in arrays]


@pytest.mark.parametrize(
    ("name", "dtype"),
    few(
        [*((name, "float64") for name in zoo.TEXT_FAMILIES), *((name, "float32") for name in zoo.FEW)],
        [("bert", "float64"), ("gpt2", "float32")],
        zoo.MATRIX,
    ),
)
def test_company_order_and_budget_do_not_matter(name: str, dtype: str) -> None:
    """Stored numbers are float32, whose rounding bounds what can be seen of float64's 1e-10 to 1e-7."""
    texts = list(zoo.TEXTS)
    tolerance = max(CLOSE[dtype], 1.2e-7)

    def explain(asked: list[str], budget: int | None = None) -> list[Attribution]:
        return zoo.explainer(name, dtype, steps=6, token_budget=budget).explain(asked)

    alone = [explain([text])[0] for text in texts]
    same(explain(texts), alone, tolerance)
    same(explain([*texts, LONG])[:-1], alone, tolerance)
    same(explain(texts[::-1])[::-1], alone, tolerance)
    for budget in (1, 40, 200):
        same(explain(texts, budget), alone, tolerance)


@pytest.mark.parametrize("name", few(zoo.TEXT_FAMILIES, zoo.QUICK, zoo.MATRIX))
def test_in_float64_the_engine_s_own_numbers_agree_to_ten_digits(name: str) -> None:
    engine = zoo.explainer(name, steps=12).engine
    encoded = engine.encoder.encode([*zoo.TEXTS, LONG])
    together = engine.explain(encoded, lambda _, logits: int(np.argmax(logits)))
    for text, mine in zip(encoded, together, strict=True):
        (alone,) = engine.explain([text], lambda _, logits: int(np.argmax(logits)))
        for a, b in zip(mine.depths, alone.depths, strict=True):
            assert np.linalg.norm(a.ig - b.ig) <= 1e-10 * np.linalg.norm(b.ig)
        np.testing.assert_allclose(mine.context, alone.context, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", few(zoo.FEW, ["bert"], zoo.MATRIX))
def test_rungs_depend_on_the_document_alone(name: str) -> None:
    texts = [*zoo.TEXTS, "not bad", "a warm film of ideas"]

    def nodes(asked: list[str], budget: int | None = None) -> list[list[int]]:
        explainer = zoo.explainer(name, tolerance=1e-4, token_budget=budget)
        return [a.nodes.tolist() for a in explainer.explain(asked)]

    alone = [nodes([text])[0] for text in texts]
    assert len({tuple(n) for n in alone}) > 1, "documents climb differently"
    assert nodes(texts) == alone
    assert nodes(texts[::-1])[::-1] == alone
    assert nodes([LONG, *texts])[1:] == alone
    assert nodes(texts, 33) == alone


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_asked_twice_the_answer_is_bit_equal(dtype: str) -> None:
    texts = list(zoo.TEXTS)
    explainer = zoo.explainer("roberta", dtype, max_nodes=54)
    first = [bits(a) for a in explainer.explain(texts)]
    assert [bits(a) for a in explainer.explain(texts)] == first
    fresh: Explainer = zoo.explainer("roberta", dtype, max_nodes=54)
    assert [bits(a) for a in fresh.explain(texts)] == first


def test_bfloat16_sums_in_float32_and_stays_near() -> None:
    coarse, exact = (
        zoo.explainer("bert", dtype, steps=12).explain(["a good film", "not bad"], target=0)
        for dtype in ("bfloat16", "float64")
    )
    for a, b in zip(coarse, exact, strict=True):
        assert a.layer_ig.dtype == np.float32
        assert np.linalg.norm(a.layer_ig[0] - b.layer_ig[0]) < 0.2 * np.linalg.norm(b.layer_ig[0])


def test_the_same_text_twice_gets_the_same_answer() -> None:
    a, b, c = zoo.explainer("bert").explain(["a good film", "not bad", "a good film"])
    assert far(a, c) < 1e-7
    assert a.key == c.key != b.key
