"""Paired statistics and the disagreement of methods, against plain arithmetic."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest

from calig.warehouse.statistics import disagreement, paired

NAN = float("nan")


def test_means_differences_and_wins_by_hand() -> None:
    values = np.array([[1.0, 2.0, 3.0, NAN], [2.0, 2.0, 0.0, 5.0], [NAN, NAN, NAN, 7.0]])
    own, other, lonely = paired(values, 0)
    assert (own.documents, own.mean, own.pairs, own.difference, own.win_rate) == (3, 2.0, 3, 0.0, 0.5)
    assert (other.documents, other.mean) == (4, 2.25)
    assert (other.pairs, other.difference) == (3, pytest.approx((1 + 0 - 3) / 3))
    assert other.win_rate == pytest.approx((1 + 0.5 + 0) / 3)
    assert paired(values, 0, lower_is_better=True)[1].win_rate == pytest.approx((0 + 0.5 + 1) / 3)
    assert (lonely.documents, lonely.mean, lonely.pairs) == (1, 7.0, 0)
    assert math.isnan(lonely.low)  # of one document
    assert math.isnan(lonely.high)
    assert math.isnan(lonely.difference)
    assert math.isnan(lonely.win_rate)


def test_intervals_are_those_of_a_plain_bootstrap_of_the_differences() -> None:
    rng = np.random.default_rng(3)
    hard = rng.normal(size=60)  # what documents have in common, much larger than what methods differ by
    values = np.stack([hard + rng.normal(0, 0.1, 60), hard + 0.05 + rng.normal(0, 0.1, 60)])
    found = paired(values, 0)[1]
    change = values[1] - values[0]
    low, high = np.quantile(change[rng.integers(60, size=(5000, 60))].mean(axis=1), [0.025, 0.975])
    assert found.difference_low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.difference_high == pytest.approx(high, abs=0.1 * (high - low))
    assert found.high - found.low > 5 * (found.difference_high - found.difference_low)


def test_a_methods_numbers_do_not_depend_on_which_others_are_compared() -> None:
    values = np.random.default_rng(0).normal(size=(5, 20))
    values[2, 3:6] = NAN
    together = paired(values, 1)
    for row in (0, 2, 4):
        alone = paired(values[[1, row]], 0)[1]
        assert astuple(alone) == pytest.approx(astuple(together[row]), rel=1e-12)


def test_disagreement_by_hand() -> None:
    rising, falling = np.array([1.0, 2.0, 3.0]), np.array([9.0, 5.0, -1.0])
    assert disagreement([rising, 10 * rising]) == pytest.approx(0)
    assert disagreement([rising, falling]) == pytest.approx(2)
    assert disagreement([rising, rising, falling]) == pytest.approx(1 - (1 - 1 - 1) / 3)
    # ranks 1.5, 1.5, 3 against 1, 2, 3: their Pearson correlation is 1.5 / √(1.5 · 2)
    assert disagreement([np.array([0.0, 0.0, 1.0]), rising]) == pytest.approx(1 - 1.5 / math.sqrt(3))


@pytest.mark.parametrize(
    "scores", [[], [[1.0, 2.0]], [[1.0, 2.0], [3.0, 3.0]], [[1.0], [2.0]], [[1.0, 2.0], [NAN, 1.0]]]
)
def test_disagreement_is_undefined_without_two_rankings(scores: list[list[float]]) -> None:
    assert disagreement([np.array(own) for own in scores]) is None
