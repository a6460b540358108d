"""What could have been seen, against how often the tests of this package see it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calig.comparison import mcnemar_p, of_counts, paired_p, samples_p, shares_p
from calig.comparison.power import (
    changes_detectable,
    flips_detectable,
    means_detectable,
    psi_detectable,
    psi_documents,
    shares_detectable,
)
from tests.material.tiers import few

SAMPLES = 400
STATED = pytest.approx(0.8, abs=0.11)  # 0.70 of an index over 10 bins of 20 documents; else 0.74 to 0.85
sizes = pytest.mark.parametrize("size", few([20, 60, 100, 400], {20, 100}, "samples of other sizes"))
levels = pytest.mark.parametrize("level", [0.05 / 3, 1e-3])


@sizes
@levels
def test_a_difference_of_means_is_found_as_often_as_stated(size: int, level: float) -> None:
    rng = np.random.default_rng(size)
    values = rng.normal(0, 2, (SAMPLES, 2 * size))
    values[:, size:] += means_detectable(2, size, size, level)
    second = np.tile(np.arange(2 * size) >= size, SAMPLES)
    assert (samples_p(values.ravel(), second, np.arange(SAMPLES) * 2 * size) <= level).mean() == STATED


@sizes
@levels
def test_a_mean_change_is_found_as_often_as_stated(size: int, level: float) -> None:
    rng = np.random.default_rng(size)
    values = rng.normal(changes_detectable(2, size, level), 2, (SAMPLES, size))
    assert (paired_p(values.ravel(), np.arange(SAMPLES) * size) <= level).mean() == STATED


@sizes
@levels
@pytest.mark.parametrize("share", [0.87, 0.5, 0.03])
def test_a_change_of_a_share_is_found_as_often_as_stated(size: int, level: float, share: float) -> None:
    rng = np.random.default_rng(size)
    change = shares_detectable(share, size, size, level)
    moved = share + math.copysign(min(change, max(share, 1 - share)), 0.5 - share)
    a, b = (rng.binomial(size, own, SAMPLES).astype(float) for own in (share, moved))
    found = (shares_p(a, np.full(SAMPLES, size), b, np.full(SAMPLES, size)) <= level).mean()
    assert found == STATED if math.isfinite(change) else found < 0.8


def test_shares_of_large_samples_are_as_those_of_smaller_ones_foretell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact = shares_detectable(0.87, 400, 300, 1e-3)
    monkeypatch.setattr("calig.comparison.power.LARGE", 0)
    assert shares_detectable(0.87, 400, 300, 1e-3) == pytest.approx(exact, rel=0.03)


@sizes
@levels
def test_flips_are_found_as_often_as_stated(size: int, level: float) -> None:
    rng = np.random.default_rng(size)
    lost = rng.binomial(size, flips_detectable(size, level), SAMPLES)
    assert np.mean([mcnemar_p(int(own), 0) <= level for own in lost]) == STATED


@sizes
@pytest.mark.parametrize("bins", [2, 10])
@pytest.mark.parametrize("limit", [0.1, 0.25])
def test_an_index_passes_its_limit_as_often_as_stated(size: int, bins: int, limit: float) -> None:
    rng = np.random.default_rng(size)
    index = psi_detectable(bins, size, size, limit)
    tilts = np.exp(np.outer(np.linspace(0, 20, 20_001), np.linspace(-0.5, 0.5, bins)))
    moved = tilts / tilts.sum(axis=1, keepdims=True)
    moved = moved[np.argmax(((moved - 1 / bins) * np.log(moved * bins)).sum(axis=1) >= index)]
    a, b = (rng.multinomial(size, own, SAMPLES) for own in (np.full(bins, 1 / bins), moved))
    found = [of_counts(*pair)[0] > limit for pair in zip(a, b, strict=True)]
    assert np.mean(found) == STATED


@levels
def test_with_as_many_documents_as_would_do_chance_passes_the_limit_as_rarely_as_stated(level: float) -> None:
    rng = np.random.default_rng(0)
    enough = int(psi_documents(10, 0.25, level))
    for size, low, high in ((enough, 0, 1.3 * level), (enough // 2, 3 * level, 1)):
        a, b = (rng.multinomial(size, np.full(10, 0.1), 3000) for _ in "ab")
        passed = np.mean([of_counts(*pair)[0] > 0.25 for pair in zip(a, b, strict=True)])
        assert low <= passed <= high


def test_where_nothing_can_be_seen_the_smallest_change_is_infinite_or_not_known() -> None:
    assert shares_detectable(0.9, 3, 3, 1e-3) == math.inf
    assert flips_detectable(5, 1e-3) == math.inf
    assert means_detectable(1, 4, 4, 1e-3) == math.inf  # 2 of 70 ways
    assert changes_detectable(1, 8, 1e-3) == math.inf
    assert math.isnan(shares_detectable(math.nan, 50, 50, 0.01))
    assert math.isnan(shares_detectable(0.9, 0, 50, 0.01))
    assert math.isnan(flips_detectable(0, 0.01))
    assert math.isnan(means_detectable(math.nan, 50, 50, 0.01))
    assert math.isnan(psi_detectable(1, 50, 50, 0.25))
    assert psi_detectable(10, 5, 5, 0) > 0
