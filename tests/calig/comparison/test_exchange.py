"""How large the largest PSI is by chance."""

from __future__ import annotations

import math
from dataclasses import astuple
from itertools import combinations

import numpy as np
import pytest

from calig.comparison import exchange
from calig.comparison.drift import Binned, indices
from calig.comparison.exchange import Chance, largest_by_chance


def measured(rng: np.random.Generator, documents: int, measures: int = 12) -> np.ndarray:
    """Values that hang together, some tied, some not there."""
    values = rng.normal(size=(documents, measures)) + rng.normal(size=(documents, 1))
    values[:, ::3] = np.round(values[:, ::3])
    values[rng.random(values.shape) < 0.05] = np.nan
    return values


def chance(a: np.ndarray, b: np.ndarray, level: float = 0.05, paired: bool = False) -> Chance:
    return largest_by_chance(Binned.of_values(a, b), paired, level)


@pytest.mark.parametrize("paired", [False, True])
def test_of_quiet_pairs_as_many_are_beyond_chance_as_the_level_says(paired: bool) -> None:
    rng = np.random.default_rng(8)
    p = []
    for _ in range(300):
        a, b = measured(rng, 30), measured(rng, 30 if paired else 45)
        if paired:  # one document in both runs: most of its value is its own
            b = np.where(np.isnan(a), np.nan, a + 0.3 * b)
            a = a + 0.3 * measured(rng, 30)
        p.append(chance(a, b, paired=paired).p)
    for level in (0.05, 0.2, 0.5):
        spread = math.sqrt(level * (1 - level) / len(p))
        assert abs(np.mean(np.array(p) <= level) - level) < 3.5 * spread + 1 / 400


def test_p_is_the_share_of_all_ways_to_exchange_where_they_can_be_counted() -> None:
    rng = np.random.default_rng(4)
    a, b = measured(rng, 5, 3), measured(rng, 5, 3)
    binned = Binned.of_values(a, b)
    held = np.concatenate([binned.held(binned.a), binned.held(binned.b)]).astype(float)
    ways = np.array([held[list(own)].sum(0) for own in combinations(range(10), 5)])
    found = np.nanmax(indices(ways, held.sum(0) - ways, binned.starts, False), axis=1)
    one = chance(a, b, 0.01)
    exact = np.mean(found >= one.largest - 1e-12)
    assert one.p == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / one.draws))


def test_beyond_chance_is_what_p_within_the_level_says() -> None:
    rng = np.random.default_rng(5)
    seen = set()
    for shift in np.linspace(0, 1.2, 40):
        one = chance(measured(rng, 40), measured(rng, 40) + shift)
        assert (one.largest > one.by_chance) == (one.p <= 0.05)
        seen.add(one.p <= 0.05)
    assert seen == {True, False}


@pytest.mark.parametrize("paired", [False, True])
def test_of_many_documents_counts_are_drawn_with_the_mean_and_spread_that_exchanges_give(
    paired: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    a, b = measured(rng, 600), measured(rng, 600)
    drawn = chance(a, b, 0.01, paired)
    monkeypatch.setattr(exchange, "LARGE", 100)
    normal = chance(a, b, 0.01, paired)
    assert normal.by_chance == pytest.approx(drawn.by_chance, rel=0.1)
    assert normal.p == pytest.approx(drawn.p, abs=0.1)


def test_documents_are_exchanged_within_their_groups() -> None:
    """Where the groups say all, every exchange gives the same counts."""
    groups = np.repeat([0, 1], [30, 10]), np.repeat([0, 1], [10, 30])
    binned = Binned(groups[0][:, None], groups[1][:, None], np.array([2]))
    apart = largest_by_chance(binned, False, 0.05)
    within = largest_by_chance(binned, False, 0.05, groups)
    assert (apart.largest, apart.p < 0.003) == (within.largest, True)
    assert within.p == 1


def test_few_documents_are_never_beyond_chance() -> None:
    a, b = np.zeros((2, 1)), np.ones((2, 1))
    one = chance(a, b)
    assert (one.by_chance, one.largest > 1) == (math.inf, True)
    assert math.isnan(chance(a[:0], b).largest)
    assert math.isnan(largest_by_chance(Binned.of_values(np.empty((3, 0)), np.empty((3, 0))), False, 0.1).p)


@pytest.mark.parametrize("paired", [True, False])
def test_many_documents_are_laid_out_some_at_a_time(paired: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    binned = Binned.of_values(rng.normal(size=(11_000, 2)), rng.normal(size=(11_000, 2)))
    whole = largest_by_chance(binned, paired, 0.05)
    monkeypatch.setattr(exchange, "_BLOCK", 999)
    laid: list[int] = []
    held = Binned.held
    monkeypatch.setattr(Binned, "held", lambda self, side: laid.append(len(side)) or held(self, side))
    found = largest_by_chance(binned, paired, 0.05)
    assert astuple(found) == pytest.approx(astuple(whole), rel=1e-9)
    assert max(laid) == 999
