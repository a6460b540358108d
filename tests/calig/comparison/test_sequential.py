"""The sequential control: its limit, its scores on values of any kind, and what it finds."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import scipy

from calig.bootstrap import Doubles
from calig.comparison import sequential
from calig.comparison.sequential import (
    ALLOWANCE,
    Control,
    control,
    detectable,
    fewest_runs,
    limit_of,
    run_length_of,
)


def follow(values: Doubles, limit: float = 8.0, weights: Doubles | None = None) -> list[Control]:
    columns = values.reshape(len(values), -1)
    weighed = np.ones_like(columns) if weights is None else weights.reshape(columns.shape)
    return control(columns, weighed, np.full(columns.shape[1], limit))


@pytest.mark.parametrize(("limit", "published"), [(8.01, 370.0)])
def test_the_run_length_is_the_published_one(limit: float, published: float) -> None:
    """D. C. Montgomery, Introduction to Statistical Quality Control, table 9.4: k = 0.25."""
    assert ALLOWANCE == 0.25
    assert run_length_of(limit) == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("limit", [0.5, 3.0])
def test_the_run_length_is_that_of_simulated_sums(limit: float) -> None:
    rng = np.random.default_rng(2)
    high, low = np.zeros(8000), np.zeros(8000)
    length = np.zeros(8000)
    running = np.ones(8000, bool)
    while running.any():
        score = rng.normal(size=8000)
        high = np.maximum(0, high + score - ALLOWANCE)
        low = np.maximum(0, low - score - ALLOWANCE)
        length += running
        running &= np.maximum(high, low) < limit
    error = length.std() / np.sqrt(len(length))
    assert run_length_of(limit) == pytest.approx(length.mean(), abs=4 * error)


@pytest.mark.parametrize("length", [10.0, 365.0, 1e6])
def test_the_limit_is_that_of_the_run_length(length: float) -> None:
    assert run_length_of(limit_of(length)) == pytest.approx(length, rel=1e-3)


def test_every_rank_is_as_likely_whatever_the_values() -> None:
    values = np.array([0.0, 1e-6, 3.0, 3.1, 1e9])
    orders = np.array(list(permutations(range(5)))).T
    scores = sequential._score(values[orders], np.ones(orders.shape))
    expected = scipy.stats.norm.ppf((np.arange(5) + 0.5) / 5)
    found, times = np.unique(scores.round(9), return_counts=True)
    assert found == pytest.approx(expected, abs=1e-8)
    assert set(times) == {24}


def test_scores_do_not_depend_on_the_scale() -> None:
    values = np.random.default_rng(3).normal(size=(80, 4))
    values[40:] += 1.0
    for other in (3e6 * values - 1e3, 1e-9 * values):
        for one, same in zip(follow(values), follow(other), strict=True):
            assert one.alarms == same.alarms
            assert one.reached == pytest.approx(same.reached)


def test_what_never_varies_is_never_found() -> None:
    documents = np.random.default_rng(4).integers(1, 500, 300).astype(float)
    for value in (0.0, 0.1, 1 / 3, -7e9):
        [state] = follow(np.full(300, value), weights=documents)
        assert (state.alarms, state.reached, state.runs) == ((), 0.0, 300)


def test_one_odd_value_among_equal_ones_is_one_odd_value() -> None:
    values = np.full(60, 0.875)
    values[30] = 1e6
    [state] = follow(values, limit=4.0)
    assert state.alarms == ()


@pytest.mark.parametrize("direction", [1, -1])
def test_a_lasting_change_is_found_once_and_dated(direction: int) -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(0.9, 0.02, 200)
    values[100:] += direction * 0.03
    [state] = follow(values, limit_of(1000))
    [alarm] = state.alarms
    assert alarm.direction == direction
    assert 100 < alarm.found < 120
    assert abs(alarm.since - 100) <= 2
    assert state.runs == 200 - (alarm.found + 1), "the control began again behind the alarm"
    assert state.spread == pytest.approx(values[alarm.found + 1 :].std(ddof=1))


def test_a_value_that_never_varied_and_then_stays_elsewhere_is_found() -> None:
    [state] = follow(np.repeat([0.5, 0.6], 60), limit_of(1000))
    [alarm] = state.alarms
    assert (alarm.since, alarm.direction) == (60, 1)


def test_runs_without_a_value_are_passed_over() -> None:
    values = np.random.default_rng(6).normal(size=150)
    values[75:] += 1.5
    kept = np.sort(np.random.default_rng(7).permutation(400)[:150])
    spread = np.full(400, np.nan)
    spread[kept] = values
    weights = np.ones(400)
    weights[~np.isfinite(spread)] = 0
    [one], [other] = follow(values), follow(spread, weights=weights)
    assert other.alarms
    assert [(kept[a.found], kept[a.since]) for a in one.alarms] == [(a.found, a.since) for a in other.alarms]
    assert (one.reached, one.runs) == (pytest.approx(other.reached), other.runs)


def test_a_series_is_followed_alike_alone_and_among_others() -> None:
    rng = np.random.default_rng(8)
    values = rng.normal(size=(120, 6)) + np.linspace(0, 3, 120)[:, None] * np.arange(6) / 3
    values[rng.random(values.shape) < 0.1] = np.nan
    together = follow(values)
    assert sum(len(state.alarms) for state in together) > 5
    for place, state in enumerate(together):
        [alone] = follow(values[:, place])
        assert state.alarms == alone.alarms
        assert state.reached == pytest.approx(alone.reached)


def test_documents_are_weights() -> None:
    """0.5 of few documents is no odd value beside 0.9 of many, and 0.6 of many is one."""
    values = np.array([0.9, 0.91, 0.89, 0.5, 0.6])
    weights = np.array([1000.0, 1000.0, 1000.0, 1.0, 1000.0])
    score = sequential._score(values[:4, None], weights[:4, None])
    assert abs(score[0]) > 1
    assert sequential._score(values[:, None], weights[:, None])[0] == pytest.approx(scipy.stats.norm.ppf(0.1))


def test_fewer_runs_cannot_find_anything() -> None:
    for length in (20.0, 365.0, 20_000.0):
        limit = limit_of(length)
        [state] = follow(np.arange(60.0), limit)
        assert state.alarms[0].found + 1 == fewest_runs(limit)


def test_what_is_detectable_is_found_by_the_control_in_four_of_five() -> None:
    limit, history, ahead = limit_of(500), 60, 30
    size = detectable(limit, history, ahead)
    assert size is not None
    rng = np.random.default_rng(9)
    values = rng.normal(size=(history + ahead, 600))
    values[history:] += size
    found = [
        any(alarm.found >= history for alarm in state.alarms)
        for state in follow(values, limit)
        if not any(alarm.found < history for alarm in state.alarms)
    ]
    assert 0.74 < np.mean(found) < 0.92, "a sum that is above 0 when the change comes is ahead"


def test_with_too_few_runs_nothing_is_detectable() -> None:
    assert detectable(limit_of(1e5), 3, 30) is None


def test_sums_of_runs_that_share_documents_scatter_as_those_of_others() -> None:
    rng = np.random.default_rng(10)
    for overlap in (0.2, 0.8):
        values = rng.normal(size=(400, 500))
        for run in range(1, 400):
            values[run] = overlap * values[run - 1] + np.sqrt(1 - overlap**2) * values[run]
        damped = sequential.damping(overlap) * values.sum(axis=0) / np.sqrt(400)
        assert damped.std() == pytest.approx(1, abs=0.1)
    assert sequential.damping(0) == 1
    assert fewest_runs(limit_of(365), 1.0) > fewest_runs(limit_of(365), 0.5) > fewest_runs(limit_of(365))
