"""Paired comparisons, against a bootstrap written out and counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from calig.warehouse.statistics import LOWER_IS_BETTER, paired

RNG = np.random.default_rng(5)
DOCUMENTS = RNG.normal(size=120)
VALUES = np.stack([DOCUMENTS + 0.3, DOCUMENTS, DOCUMENTS + RNG.normal(size=120)])


def test_means_and_differences_are_within_their_intervals_and_the_reference_ties_with_itself() -> None:
    better, reference, noisy = paired(VALUES, 1)
    assert better.mean == pytest.approx(DOCUMENTS.mean() + 0.3)
    assert better.low < better.mean < better.high
    assert better.difference == pytest.approx(0.3)
    assert (better.difference_low, better.difference_high) == pytest.approx(
        (0.3, 0.3)
    )  # paired: no spread at all
    assert better.win_rate == 1
    assert (reference.difference, reference.difference_low, reference.difference_high) == (0, 0, 0)
    assert reference.win_rate == 0.5
    assert noisy.win_rate == pytest.approx((VALUES[2] > VALUES[1]).mean())
    assert noisy.difference_high - noisy.difference_low > 0.2


def test_intervals_are_those_of_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(99)
    drawn = rng.integers(120, size=(20_000, 120))
    for values, found in zip(VALUES, paired(VALUES, 1), strict=True):
        for sample, low, high in (
            (values, found.low, found.high),
            (values - VALUES[1], found.difference_low, found.difference_high),
        ):
            expected = np.quantile(sample[drawn].mean(axis=1), [0.025, 0.975])
            assert [low, high] == pytest.approx(expected, abs=0.03)


def test_a_method_does_not_depend_on_which_others_are_compared_and_shares_their_resamples() -> None:
    assert paired(VALUES[:2], 1)[0] == paired(VALUES, 1)[0]
    own, shifted = paired(np.stack([DOCUMENTS, DOCUMENTS + 7]), 0)
    assert (shifted.low, shifted.high) == pytest.approx((own.low + 7, own.high + 7))


def test_documents_without_a_value_are_left_out_by_pairs() -> None:
    values = np.array([[1.0, np.nan, 3.0, 4.0], [1.0, 2.0, np.nan, 2.0], [np.nan] * 4])
    one, reference, none = paired(values, 1)
    assert (one.documents, one.mean) == (3, pytest.approx(8 / 3))
    assert (one.pairs, one.difference, one.win_rate) == (2, 1.0, 0.75)  # a tie and a win
    assert reference.documents == 3
    assert (none.documents, none.pairs) == (0, 0)
    assert np.isnan([none.mean, none.low, none.difference, none.win_rate]).all()


def test_where_less_is_better_the_lower_wins() -> None:
    values = np.array([[1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 3.0, 5.0]])
    assert paired(values, 1)[0].win_rate == 0.125
    assert paired(values, 1, lower_is_better=True)[0].win_rate == 0.875
    assert "sufficiency" in LOWER_IS_BETTER
    assert "comprehensiveness" not in LOWER_IS_BETTER
