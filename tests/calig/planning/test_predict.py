"""The arithmetic of a plan, against sums done by hand and costs that follow a known law."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calig.planning.predict import Costs, Range, line, makespan, means, spread


def _law(tokens: np.ndarray, seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Passes 20 + 2·T, each with up to 20 % more or fewer of them; a pass of T tokens takes (1 + T/10 + T²/500) ms."""
    noise = 1.0 if seed is None else np.random.default_rng(seed).uniform(0.8, 1.2, len(tokens))
    passes = (20 + 2 * tokens) * noise
    return passes, passes * (1 + tokens / 10 + tokens**2 / 500) / 1000


def _costs(tokens: np.ndarray, seed: int | None = None) -> Costs:
    passes, seconds = _law(tokens, seed)
    return Costs(tokens.astype(float), passes, seconds, np.arange(len(tokens)) % 2)


LENGTHS = np.random.default_rng(5).integers(5, 500, 3000)


def test_costs_that_follow_the_law_are_found_from_documents_of_other_lengths() -> None:
    passes, seconds = _law(LENGTHS)
    found = means(_costs(np.array([10, 60, 130, 260, 490])), LENGTHS, whole=True)
    assert found.tokens == Range.exact(LENGTHS.mean())
    assert found.passes.value == pytest.approx(passes.mean(), rel=1e-6)
    assert found.seconds.value == pytest.approx(seconds.mean(), rel=1e-3)


def test_what_small_pieces_take_longer_is_in_the_interval_alone() -> None:
    tokens = np.tile([10, 60, 130, 260, 490], 14)
    passes, seconds = _law(tokens)
    pieces = np.repeat([1, 2, 3], [10, 20, 40])
    costs = Costs(tokens.astype(float), passes, seconds * np.where(pieces == 1, 1.3, 1.0), pieces)
    found, truth = means(costs, LENGTHS, whole=True).seconds, _law(LENGTHS)[1].mean()
    assert found.value == pytest.approx(truth, rel=1e-3)
    assert found.high > 1.15 * truth


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    truth = float(np.mean(_law(LENGTHS)[1]))
    rng = np.random.default_rng(0)
    held, widths = 0, []
    for night in range(40):
        found = means(_costs(rng.choice(LENGTHS, 32), night), LENGTHS, whole=True, seed=night).seconds
        held += found.low <= truth <= found.high
        widths.append((found.high - found.low) / truth)
    assert held >= 34  # 38 are expected
    assert np.median(widths) < 0.4, "an interval that holds all says nothing"


def test_a_sample_of_lengths_leaves_their_sum_open() -> None:
    costs = _costs(np.array([10, 60, 130, 260, 490]))
    found = means(costs, LENGTHS[:100], whole=False)
    error = LENGTHS[:100].std() / 10
    assert found.tokens.value == LENGTHS[:100].mean()
    assert found.tokens.high - found.tokens.low == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_documents_that_cannot_be_explained_cost_nothing() -> None:
    costs = _costs(np.array([10, 60, 130, 260, 490]))
    half = np.concatenate([LENGTHS, np.zeros_like(LENGTHS)])
    whole, mixed = means(costs, LENGTHS, True), means(costs, half, True)
    assert mixed.seconds.value == pytest.approx(whole.seconds.value / 2)
    assert means(costs, np.zeros(4, int), True).seconds == Range.exact(0.0)


def test_what_the_machine_does_to_times_widens_the_interval() -> None:
    tokens = np.tile([10, 60, 130, 260], 2)
    passes, seconds = _law(tokens)
    pieces = np.repeat([0, 1], 4)
    steady = Costs(tokens.astype(float), passes, seconds, pieces)
    slowed = Costs(tokens.astype(float), passes, np.where(pieces == 1, 1.5 * seconds, seconds), pieces)
    assert spread(steady) == pytest.approx(0, abs=1e-6)
    assert spread(slowed) == pytest.approx(2 * np.std([0.8, 1.2], ddof=1), rel=0.05)
    wide = means(slowed, LENGTHS, True).seconds
    assert wide.high - wide.value > 0.5 * wide.value
    one = Costs(slowed.tokens, slowed.passes, slowed.seconds, np.zeros(8, int))
    assert spread(one) == 0.0


@pytest.mark.parametrize("documents", [1, 2])
def test_one_or_two_documents_give_no_interval(documents: int) -> None:
    costs = _costs(np.array([10, 20])[:documents])
    found = means(costs, np.array([10, 20, 30]), whole=True)
    assert found.tokens.low == found.tokens.value == found.tokens.high == 20  # counted
    for measured in (found.passes, found.seconds, means(costs, np.array([10, 20]), whole=False).tokens):
        assert measured.value > 0
        for one in (measured, measured.times(3), measured.plus(1), measured.widened(0.1)):
            assert np.isnan([one.low, one.high]).all()


def test_a_range_and_an_error_of_its_own_add_as_independent_ones_do() -> None:
    assert Range(100.0, 97.0, 104.0).widened(0.04) == Range(100.0, 95.0, pytest.approx(100 + 32**0.5))
    assert Range(100.0, 97.0, 104.0).times(2).plus(1) == Range(201.0, 195.0, 209.0)


@given(st.integers(0, 500), st.integers(1, 40), st.integers(1, 9))
def test_the_makespan_is_that_of_workers_who_pull_shard_after_shard(
    documents: int, size: int, workers: int
) -> None:
    free = [0] * workers
    for first in range(0, documents, size):
        heapq.heappush(free, heapq.heappop(free) + min(size, documents - first))
    assert makespan(documents, size, workers, 2.0) == 2.0 * max(free)


def test_a_line_goes_through_both_points_and_never_below_zero() -> None:
    assert line((10.0, 105.0), (30.0, 305.0)) == (pytest.approx(5.0), pytest.approx(10.0))
    assert line((10.0, 50.0), (30.0, 290.0)) == (0.0, pytest.approx(12.0)), "no negative start"
    assert line((0.0, 0.0), (20.0, 100.0)) == (0.0, 5.0), "one point: in proportion"
    assert line((10.0, 100.0), (30.0, 90.0)) == (0.0, 3.0), "no negative slope"
