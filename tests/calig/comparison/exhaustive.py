"""Permutation tests by going through all arrangements, and samples of every shape to try them on."""

from __future__ import annotations

import itertools

import numpy as np

EQUAL = 1e-9  # sums that differ by less, relative to the spread, are tied

SHAPES = ("0/1", "few integers", "tenths", "zeros, few others", "two clusters", "normal", "lognormal")
"""Kinds of values; all but the last two with ties, or nearly."""


def sample(rng: np.random.Generator, shape: str, size: int) -> np.ndarray:
    """So many values of a shape."""
    match shape:
        case "0/1":
            return (rng.random(size) < rng.choice([0.1, 0.3, 0.5])).astype(float)
        case "few integers":
            return np.minimum(rng.geometric(0.3, size), rng.integers(3, 9)).astype(float)
        case "tenths":
            return 0.3 + 0.1 * rng.integers(-3, 4, size)  # 0.1 + 0.2 is not 0.3: tied all the same
        case "zeros, few others":
            return np.where(rng.random(size) < 0.6, 0, rng.lognormal(0, 1, size))
        case "two clusters":
            return rng.normal(0, 0.02, size) + (rng.random(size) < 0.2) * rng.lognormal(0, 0.3, size)
        case "normal":
            return rng.normal(size=size)
        case "lognormal":
            return rng.lognormal(0, 1, size)
    raise ValueError(shape)


def leaning(rng: np.random.Generator, values: np.ndarray, drawn: int) -> np.ndarray:
    """(n,) which so many of the values are the second sample's: any, or the larger or smaller ones rather."""
    spread = values.std() or 1
    lean = rng.uniform(-3, 3) * (values - values.mean()) / spread
    return np.argsort(np.argsort(-(rng.gumbel(size=len(values)) + lean))) < drawn


def rising(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """The values with signs: any, or plus rather, for large values the more."""
    up = rng.random(len(values)) < 1 / (1 + np.exp(-rng.uniform(0, 3) * np.abs(values) / (values.std() or 1)))
    return np.abs(values) * np.where(up, 1, -1)


def samples_exactly(values: np.ndarray, second: np.ndarray) -> float:
    """Twice the share of draws whose sum is as far out on its side, at most 1; NaN where all values are equal."""
    sums = np.array([sum(own) for own in itertools.combinations(values, int(second.sum()))])
    total, middle = values[second].sum(), second.sum() * values.mean()
    near = EQUAL * values.std() * len(values)
    if values.std() == 0:
        return float("nan")
    if abs(total - middle) <= near:
        return 1.0
    tail = (sums >= total - near) if total > middle else (sums <= total + near)
    return float(min(1, 2 * tail.mean()))


def pairs_exactly(change: np.ndarray) -> float:
    """Twice the share of signs whose sum is as large, at most 1; NaN where all changes are 0."""
    sums = np.zeros(1)
    for own in change:
        sums = np.concatenate([sums + own, sums - own])
    total, near = abs(change.sum()), EQUAL * np.abs(change).sum()
    if not change.any():
        return float("nan")
    return 1.0 if total <= near else float(min(1, 2 * (sums >= total - near).mean()))
