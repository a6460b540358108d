"""The statistics against enumeration, scipy and numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from calig.comparison import (
    Sums,
    adjusted,
    adjusted_extremes,
    all_in_b,
    cohens_d,
    jensen_shannon,
    mcnemar_p,
    of_counts,
    paired_floor,
    paired_p,
    samples_floor,
    samples_p,
    share_interval,
    shares_floor,
    shares_p,
    stability,
)
from calig.comparison.permutation import t_interval

START = np.zeros(1, dtype=np.int64)


def test_benjamini_hochberg_is_scipys() -> None:
    p = np.random.default_rng(0).random(50) ** 3
    assert adjusted(p, 0.05) == pytest.approx(stats.false_discovery_control(p))


def test_adjusting_leaves_gaps_where_nothing_is_tested() -> None:
    found = adjusted(np.array([0.01, np.nan, 0.04, 0.03]), 0.05)
    assert found[[0, 2, 3]] == pytest.approx([0.03, 0.04, 0.04])  # 3·0.01, 3·0.04/3, min(3·0.03/2, 0.04)
    assert np.isnan(found[1])
    assert len(adjusted(np.empty(0), 0.05)) == 0


def test_tests_that_cannot_come_out_do_not_burden_the_rest() -> None:
    """Of floors 0.001, 0.02, 0.03 and 0.2 at 0.05: two are ≤ 0.05/2, so that k = 2 is the least that will do."""
    found = adjusted(np.array([0.001, 0.02, 0.03, 0.2]), 0.05, np.array([0.001, 0.02, 0.03, 0.2]))
    assert found[:2] == pytest.approx([0.002, 0.02])
    assert np.isnan(found[2:]).all()


def test_tests_of_extremes_burden_each_other_by_their_chances_alone() -> None:
    assert adjusted_extremes(np.array([0.01, 0.5, 0.002, 0.01, 0.9])) == pytest.approx(
        [0.022, 0.522, 0.002, 0.022, 1]
    )
    assert len(adjusted_extremes(np.empty(0))) == 0
    # 3 documents, all of them among 5 of 9: 5·4·3 of 9·8·7 ways
    chances = all_in_b(np.array([3.0, 3, 6]), np.full(3, 4.0), np.array([5.0, 2, 5]))
    assert chances == pytest.approx([5 * 4 * 3 / (9 * 8 * 7), 0, 0])


def test_the_farthest_that_samples_can_lie_apart_is_their_floor() -> None:
    values = np.array([1.0, 2, 3, 4, 15, 16, 17, 18.5])
    second = np.arange(8) >= 4
    assert samples_p(values, second, START) == pytest.approx(2 / 70)  # of 8 choose 4 ways
    assert samples_p(-values, second, START) == pytest.approx(2 / 70)
    assert samples_floor(np.array([4.0]), np.array([4.0])) == pytest.approx(2 / 70)
    assert paired_p(np.array([1.0, 2, 3, 0.5, 0.1]), START) == pytest.approx(1 / 16)
    assert paired_floor(np.array([5.0])) == pytest.approx(1 / 16)


def test_far_tails_are_those_of_the_normal_distribution_where_samples_are_large() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=4000)
    values[2000:] += 0.16
    second = np.arange(4000) >= 2000
    found = samples_p(values, second, START)[0]
    student = stats.ttest_ind(values[:2000], values[2000:]).pvalue
    assert student < 1e-5
    assert math.log(found) == pytest.approx(math.log(student), rel=0.02)


def test_many_tests_at_once_are_each_alone() -> None:
    rng = np.random.default_rng(2)
    parts = [rng.normal(1, 1, size) for size in (6, 20, 9)]
    second = [np.arange(len(part)) < len(part) // 3 for part in parts]
    parts = [part + 3 * own for part, own in zip(parts, second, strict=True)]
    starts = np.array([0, 6, 26])
    alone = [samples_p(part, own, START)[0] for part, own in zip(parts, second, strict=True)]
    assert samples_p(np.concatenate(parts), np.concatenate(second), starts) == pytest.approx(alone)
    alone = [paired_p(part, START)[0] for part in parts]
    assert paired_p(np.concatenate(parts), starts) == pytest.approx(alone)


def test_values_that_do_not_vary_are_not_tested() -> None:
    assert np.isnan(samples_p(np.full(8, 0.3), np.arange(8) > 3, START))
    assert np.isnan(paired_p(np.zeros(6), START))


def test_students_intervals_are_scipys() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=12), rng.normal(0.5, 2, size=30)
    welch = stats.ttest_ind(b, a, equal_var=False).confidence_interval()
    assert t_interval(Sums.of(a), Sums.of(b))[0] == pytest.approx([welch.low, welch.high])
    one = stats.ttest_1samp(a, 0).confidence_interval()
    assert t_interval(Sums.of(a))[0] == pytest.approx([one.low, one.high])


def test_skewed_samples_of_unequal_size_hold_their_level() -> None:
    """Where Welch's t is off a hundredfold: 15 against 200 values of a lognormal distribution."""
    rng = np.random.default_rng(4)
    count, n, m = 20_000, 15, 200
    values = np.exp(rng.normal(size=(count, n + m)))
    welch = stats.ttest_ind(values[:, :n], values[:, n:], axis=1, equal_var=False).pvalue
    pooled = stats.ttest_ind(values[:, :n], values[:, n:], axis=1).pvalue
    near = np.flatnonzero(pooled < 0.005)
    p = samples_p(
        values[near].ravel(), np.tile(np.arange(n + m) >= n, len(near)), np.arange(len(near)) * (n + m)
    )
    level = 1e-3
    allowed = count * level + 3 * math.sqrt(count * level)
    assert (p <= level).sum() <= allowed
    assert (welch <= level).sum() > 10 * count * level


def test_shares_are_fishers_exact_test() -> None:
    """Twice the smaller tail, which scipy gives one side at a time."""
    cases = np.array([[3, 40, 11, 45], [0, 400, 15, 400], [7, 20, 7, 20], [30, 30, 12, 29]], dtype=float)
    found = shares_p(*cases.T)
    for (a, of_a, b, of_b), p in zip(cases, found, strict=True):
        table = [[b, of_b - b], [a, of_a - a]]
        sides = [stats.fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")]
        assert p == pytest.approx(min(1, 2 * min(sides)))
    assert found[1] == pytest.approx(5.33e-5, rel=0.01)
    assert np.isnan(shares_p(np.zeros(1), np.zeros(1), np.ones(1), np.ones(1)))


def test_the_floor_of_shares_is_that_of_all_on_one_side() -> None:
    floor = shares_floor(np.array([15.0, 20]), np.array([400.0, 10]), np.array([400.0, 10]))
    assert floor[0] == pytest.approx(
        shares_p(np.zeros(1), np.full(1, 400.0), np.full(1, 15.0), np.full(1, 400.0))[0]
    )
    assert floor[1] == 1  # every document holds it


def test_mcnemar_is_the_binomial_test() -> None:
    assert mcnemar_p(3, 14) == pytest.approx(stats.binomtest(3, 17).pvalue)
    assert math.isnan(mcnemar_p(0, 0))


def test_newcombes_interval_is_the_published_one() -> None:
    """R. G. Newcombe, 1998, table II, example (a), method 10: 56/70 − 48/80."""
    counts = [np.array([float(count)]) for count in (48, 80, 56, 70)]
    assert share_interval(*counts)[0] == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_psi_and_js_of_counts() -> None:
    a, b = np.array([30.0, 70]), np.array([50.0, 50])
    p, q = np.array([30.5, 70.5]) / 101, np.array([0.5, 0.5])
    index = ((q - p) * np.log(q / p)).sum()
    assert of_counts(a, b, paired=True)[0] == pytest.approx(index)
    assert of_counts(a, b)[0] == pytest.approx(index - 2 / 100)
    divergence = distance.jensenshannon([0.3, 0.7], [0.5, 0.5], base=2) ** 2
    assert of_counts(a, b, paired=True)[1] == pytest.approx(divergence)
    assert of_counts(a, b)[1] == pytest.approx(divergence - 2 / 100 / (8 * math.log(2)))
    assert jensen_shannon(np.array([1.0, 0]), np.array([0.0, 1])) == 1
    assert all(map(math.isnan, of_counts([0, 0], [1, 2])))


def test_without_drift_the_stability_index_is_near_nought() -> None:
    rng = np.random.default_rng(5)
    found = [stability(rng.normal(size=300), rng.normal(size=400))[0] for _ in range(300)]
    floor = 9 * (1 / 300 + 1 / 400)
    assert (
        np.mean(found) < 0.5 * floor
    )  # without the correction, about the floor; clipped at 0 about 0.4 of it
    assert stability(np.zeros(50), np.zeros(50)) == (0, 0)
    assert stability(np.zeros(50), -np.ones(50))[1] > 0.9  # a constant has a bin of its own


def test_cohens_d() -> None:
    a, b = np.array([1.0, 2, 3]), np.array([3.0, 4, 5, 8])
    pooled = math.sqrt((2 * a.var(ddof=1) + 3 * b.var(ddof=1)) / 5)
    assert cohens_d(a, b) == pytest.approx(3 / pooled)
    assert cohens_d(np.ones(3), np.ones(4)) == 0
    assert cohens_d(np.ones(3), np.full(4, 2.0)) == math.inf
