"""Tails of permutation tests, ties counted: against all arrangements, and approximations against exact tails."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from calig.comparison import (
    mcnemar_p,
    paired_floor,
    paired_p,
    paired_values_floor,
    permutation,
    samples_floor,
    samples_p,
    samples_values_floor,
    shares_p,
)
from tests.calig.comparison.calibration import approximate, exhaustive
from tests.calig.comparison.exhaustive import SHAPES
from tests.material.tiers import extended

START = np.zeros(1, dtype=np.int64)


@pytest.mark.parametrize("shape", SHAPES)
def test_small_samples_have_the_p_values_of_all_arrangements(shape: str) -> None:
    """A tenth of what `python -m tests.calig.comparison.calibration exhaustive` tries."""
    tried, worst = exhaustive(np.random.default_rng(0), shape, 80)
    assert tried > 100
    assert worst < 1e-6


@pytest.mark.parametrize("shape", ["0/1", "few integers", "tenths"])
def test_so_they_have_on_a_grid(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("signs_tail", "draws_tail"):
        monkeypatch.setattr(permutation, name, lambda *_: None)
    assert exhaustive(np.random.default_rng(5), shape, 80)[1] < 1e-6


@pytest.mark.parametrize("shape", SHAPES)
@extended("exact tails of samples of 60")
def test_where_no_exact_tail_is_found_in_time_the_approximation_is_near(shape: str) -> None:
    errors, needed = approximate(np.random.default_rng(1), shape, 60)
    assert len(errors) > 20
    assert np.median(np.abs(errors)) < 0.02
    assert np.abs(errors[needed]).max(initial=0) < 0.1


def test_p_values_of_tied_values_count_the_ties() -> None:
    settled = np.r_[np.zeros(31), np.ones(2), np.zeros(22)]
    assert samples_p(settled, np.arange(55) >= 31, START) == pytest.approx(2 * (24 * 23) / (55 * 54))
    assert paired_p(np.r_[np.ones(3), np.zeros(57)], START) == pytest.approx(1 / 4)
    assert paired_p(np.r_[np.ones(8), -np.ones(2), np.zeros(30)], START) == pytest.approx(0.109375)
    six_to_one = np.r_[np.ones(1), np.zeros(59), np.ones(6), np.zeros(54)]
    assert samples_p(six_to_one, np.arange(120) >= 60, START) == pytest.approx(
        2 * stats.hypergeom.sf(5, 120, 7, 60), rel=1e-9
    )


def test_of_noughts_and_ones_they_are_those_of_shares() -> None:
    rng = np.random.default_rng(2)
    for of_a, of_b in ((30, 50), (400, 300), (2000, 2000)):
        a, b = rng.binomial(of_a, 0.1), rng.binomial(of_b, 0.14)
        values = np.r_[np.arange(of_a) < a, np.arange(of_b) < b].astype(float)
        found = samples_p(values, np.arange(of_a + of_b) >= of_a, START)
        assert found == pytest.approx(shares_p(*np.array([[a], [of_a], [b], [of_b]])), rel=1e-6)
    gained, lost = 40, 21
    change = np.r_[np.ones(gained), -np.ones(lost), np.zeros(1000)]
    assert paired_p(change, START) == pytest.approx(mcnemar_p(lost, gained))


def test_no_change_at_all_is_no_evidence() -> None:
    assert samples_p(np.array([1.0, 4, 4, 2, 2, 5]), np.arange(6) > 2, START) == 1
    assert paired_p(np.array([0.1, 0.2, -0.3]), START) == 1


def test_floors_are_the_smallest_p_values_that_the_values_can_have() -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        values = np.r_[2.0, rng.integers(0, 3, 8)]
        sides = np.array([rng.permutation(9) < 3 for _ in range(300)])
        least = min(samples_p(values, side, START)[0] for side in sides)
        floor = samples_values_floor(values, sides[0], START)[0]
        assert floor == pytest.approx(least)
        assert floor >= samples_floor(np.array([6.0]), np.array([3.0]))[0] * (1 - 1e-9)
    change = np.r_[1.0, 2, 0, 0, 3]
    assert paired_values_floor(change, START) == paired_p(change, START) == 1 / 4
    assert paired_floor([5]) == 1 / 16


def test_skewed_tied_and_clumped_samples_beyond_all_grids_are_near_the_drawn_ones() -> None:
    """Too many for an exact tail: against draws."""
    rng = np.random.default_rng(4)
    for values in (np.minimum(rng.geometric(0.3, 400), 12.0), np.exp(rng.normal(size=400))):
        second = np.arange(400) >= 200
        values = values + 0.0
        values[second] = np.sort(values[second])[::-1]
        draws = np.array([rng.permutation(values)[:200].sum() for _ in range(20_000)])
        for target in (0.03, 0.3, 0.8):
            ranked = np.sort(draws)
            aim = ranked[int(len(draws) * (1 - target / 2))]
            swapped = _with_sum(values, 200, aim, rng)
            exact = 2 * (draws >= swapped[:200].sum() - 1e-9).mean()
            found = samples_p(swapped, np.arange(400) < 200, START)[0]
            assert found == pytest.approx(min(1, exact), abs=4 * math.sqrt(exact / 10_000))


def _with_sum(values: np.ndarray, drawn: int, aim: float, rng: np.random.Generator) -> np.ndarray:
    """The values in an order in which the first so many sum to about the aim."""
    values = rng.permutation(values)
    for _ in range(20_000):
        i, j = rng.integers(drawn), rng.integers(drawn, len(values))
        off = aim - values[:drawn].sum()
        if abs(off - (values[j] - values[i])) < abs(off):
            values[[i, j]] = values[[j, i]]
    return values
