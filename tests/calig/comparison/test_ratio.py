"""A ratio of sums compared: the numbers are the sums', the test is of values that can be exchanged, intervals cover."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calig.comparison.permutation import samples_p
from calig.comparison.rows import ratio_row


def documents(rng: np.random.Generator, count: int, ratio: float = 3.0) -> np.ndarray:
    """(2, count) above and below: documents of very different size, whose own ratio scatters."""
    below = np.exp(rng.normal(0, 1, count))
    return np.stack([below * ratio * rng.gamma(9, 1 / 9, count), below])


@pytest.mark.parametrize("paired", [False, True])
def test_the_numbers_are_ratios_of_sums(paired: bool) -> None:
    rng = np.random.default_rng(1)
    a, b = documents(rng, 50), documents(rng, 50, 4.0)
    a[:, 3] = np.nan
    row = ratio_row(a, b, paired)
    kept = ~np.isnan(a[0])
    there = b[:, kept] if paired else b
    assert row["a"] == pytest.approx(a[0][kept].sum() / a[1][kept].sum())
    assert row["b"] == pytest.approx(there[0].sum() / there[1].sum())
    assert row["difference"] == pytest.approx(row["b"] - row["a"])
    assert (row["documents_a"], row["documents_b"]) == (49, 49 if paired else 50)
    assert row["low"] < row["difference"] < row["high"]
    # in another unit, and with the runs exchanged, it is the same comparison
    for scaled, factor in (
        (ratio_row(a * [[7.0], [1.0]], b * [[7.0], [1.0]], paired), 7),
        (ratio_row(b, a, paired), -1),
    ):
        assert scaled["p"] == pytest.approx(row["p"], rel=1e-6)
        assert scaled["size"] == pytest.approx(math.copysign(row["size"], factor * row["size"]))
        assert scaled["difference"] == pytest.approx(factor * row["difference"])


def test_the_test_is_of_linearised_values() -> None:
    rng = np.random.default_rng(2)
    a, b = documents(rng, 40), documents(rng, 60, 3.6)
    both = np.concatenate([a, b], axis=1)
    ratio = both[0].sum() / both[1].sum()
    second = np.arange(100) >= 40
    p = samples_p(both[0] - ratio * both[1], second, np.zeros(1, dtype=np.int64))[0]
    assert 0 < p < 0.2
    assert ratio_row(a, b, False)["p"] == pytest.approx(p, rel=1e-6)


@pytest.mark.parametrize("paired", [False, True])
def test_the_level_holds_and_the_interval_covers(paired: bool) -> None:
    rng = np.random.default_rng(3)
    times = 400
    rows = [ratio_row(documents(rng, 60), documents(rng, 60), paired) for _ in range(times)]
    alarms = sum(row["p"] <= 0.05 for row in rows) / times
    covered = sum(row["low"] <= 0 <= row["high"] for row in rows) / times
    error = math.sqrt(0.05 * 0.95 / times)
    assert abs(alarms - 0.05) <= 4 * error
    assert covered >= 0.95 - 4 * error  # of skewed sums the delta method is a little short


def test_the_same_values_have_not_changed_and_nothing_has_no_ratio() -> None:
    a = documents(np.random.default_rng(4), 30)
    row = ratio_row(a, a.copy(), True)
    assert (row["difference"], row["size"]) == (0, 0)
    assert math.isnan(row["p"])
    even = np.stack([a[1] * 2, a[1]])
    assert math.isnan(ratio_row(even, even[:, :20], False)["p"])  # every document has one ratio
    empty = ratio_row(a, a[:, :0], False)
    assert math.isnan(empty["b"])
    assert math.isnan(empty["p"])
    assert (empty["documents_a"], empty["documents_b"]) == (30, 0)
