"""Has a number moved slowly, over many runs? A control that learns what is usual from the runs themselves.

Each value is ranked among all values since the control began, and its rank is made a normal score. As long as the
values come in random order the scores have one distribution, whatever the distribution of the values is. So no run is
set aside to learn mean and spread from; an odd value counts as the largest and no more; and the first change of a value
that never varied counts as the one odd value of n. Two cumulative sums of the scores (CUSUM), one a side, cross a limit
that is solved from the mean number of runs between two false alarms. Where values are tied there are fewer.

Scores from the mean and standard deviation of the earlier values (Hawkins, clipped at ±4) find a lasting change one to
six nights sooner, but at the rare levels that many metrics need their false alarms depend on the distribution
(`python -m tests.benchmarks.slow_drift`).

References
----------
W. J. Conover, V. G. Tercero-Gómez and A. E. Cordero-Franco, *The sequential normal scores transformation*, Sequential
Analysis 36, 2017 (the scores); D. Brook and D. A. Evans, *An approach to the probability distribution of CUSUM run
length*, Biometrika 59, 1972 (the limit); A. N. Pettitt, *A non-parametric approach to the change-point problem*,
Applied Statistics 28, 1979; D. M. Hawkins, *Self-starting CUSUM charts for location and scale*, The Statistician 36,
1987.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy  # its parts are loaded where they are first used

from calig.bootstrap import Doubles
from calig.comparison.power import POWER

ALLOWANCE = 0.25
"""Taken off every score, in standard deviations: half the lasting change that the control is best at."""


_STATES = 200  # of Brook and Evans' chain
_MOST_OVERLAP = 0.95
_LEAST = 1e-3  # limit: below it each score beyond the allowance crosses
_ROUNDED = 1e-12  # relative: no further from their mean are values that are equal
_SERIES, _LONGEST = 400, 200  # simulated for `detectable`, and the longest history there


@dataclass(frozen=True, slots=True)
class Alarm:
    """A crossing of the limit: the run that found it, the first run of the change, and 1 for up or −1 for down.

    That first run is the one, of those since the sum was last 0, that parts the values best (after Pettitt).
    """

    found: int
    since: int
    direction: int


@dataclass(frozen=True, slots=True)
class Control:
    """What the control of one series says after its last run.

    Attributes
    ----------
    alarms
        Oldest first; after each the control began again.
    reached
        The larger of the two sums, as a share of the limit.
    runs
        Values since the control began, or began again.
    spread
        Standard deviation of a value of weight 1 since then; NaN of fewer than two values.
    """

    alarms: tuple[Alarm, ...]
    reached: float
    runs: int
    spread: float


def control(values: Doubles, weights: Doubles, limits: Doubles, overlap: float = 0.0) -> list[Control]:
    """Follow m series over n runs.

    Parameters
    ----------
    values
        (n, m), NaN where a run has none: it is passed over.
    weights
        (n, m) documents that the value is of; its variance is taken to be inverse to them.
    limits
        (m,) of the sums, from `limit_of`.
    overlap
        Share of a run's documents that are in the run before too; see `damping`.
    """
    runs, series = values.shape
    known = np.isfinite(values) & (weights > 0)
    x, w = np.where(known, values, 0.0), np.where(known, weights, 0.0)
    start, high, low = np.zeros(series, int), np.zeros(series), np.zeros(series)
    since_high, since_low = np.zeros(series, int), np.zeros(series, int)
    alarms: list[list[Alarm]] = [[] for _ in range(series)]
    for run in range(runs):
        here = known[run]
        counted = np.where(np.arange(run + 1)[:, None] >= start, w[: run + 1], 0.0)
        score = damping(overlap) * _score(x[: run + 1], counted)
        for sums, sign, since in ((high, 1, since_high), (low, -1, since_low)):
            since[here & (sums == 0)] = run
            sums[:] = np.where(here, np.maximum(0.0, sums + sign * score - ALLOWANCE), sums)
        for one in np.flatnonzero(here & (np.maximum(high, low) >= limits)).tolist():
            up = high[one] >= low[one]
            own = start[one] + np.flatnonzero(known[start[one] : run + 1, one])
            first = np.searchsorted(own, (since_high if up else since_low)[one])
            since = own[_change(x[own, one], w[own, one], int(first))]
            alarms[one].append(Alarm(run, int(since), 1 if up else -1))
            start[one], high[one], low[one] = run + 1, 0.0, 0.0
    found = []
    for one in range(series):
        own = np.flatnonzero(known[:, one] & (np.arange(runs) >= start[one]))
        reached = float(max(high[one], low[one]) / limits[one])
        found.append(Control(tuple(alarms[one]), reached, len(own), _spread(x[own, one], w[own, one])))
    return found


def damping(overlap: float) -> float:
    """What scores are multiplied by where runs share documents, so that their sums scatter as those of other runs.

    Values that share a part ρ of their documents correlate by ρ, by ρ² with those of two runs before, and so on: the
    variance of long sums is (1 + ρ)/(1 − ρ) times that of independent values. Beyond 0.95 it is taken to be 0.95.
    """
    part = min(overlap, _MOST_OVERLAP)
    return float(np.sqrt((1 - part) / (1 + part)))


def _score(x: Doubles, w: Doubles) -> Doubles:
    """(m,) normal scores of the last of n values among all, ties halved; `w` (n, m) are 0 where there is none.

    What is ranked are the distances from the weighted mean of all, in standard errors. That mean does not depend on the
    order of the runs: ranks are as likely as each other where weights are equal, or come in random order too.
    """
    there = w > 0
    count = there.sum(axis=0)
    residual = _residual(x, w)
    below = (there & (residual < residual[-1])).sum(axis=0) + (there & (residual == residual[-1])).sum(
        axis=0
    ) / 2
    score: Doubles = scipy.special.ndtri(below / np.maximum(count, 1))
    return np.where(there[-1], score, 0.0)


def _residual(x: Doubles, w: Doubles) -> Doubles:
    """(n, m) distances from the weighted mean, in standard errors but for a factor; 0 where all values are equal."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (w * x).sum(axis=0) / w.sum(axis=0)
    distance = np.where(w > 0, x - mean, 0.0)
    largest = np.abs(np.where(w > 0, x, 0.0)).max(axis=0)
    residual: Doubles = np.sqrt(w) * np.where(np.abs(distance) <= _ROUNDED * largest, 0.0, distance)
    return residual


def _change(x: Doubles, w: Doubles, first: int) -> int:
    """The place, `first` or later, that parts n values best in two: largest standardised difference of mean ranks."""
    rank = scipy.stats.rankdata(_residual(x[:, None], w[:, None])[:, 0])
    later = np.cumsum((rank - rank.mean())[::-1])[::-1]  # sums from each place on
    before = np.arange(1, len(x))
    parted = np.abs(later[1:]) / np.sqrt(before * (len(x) - before))
    least = max(first, 1)
    return least + int(np.argmax(parted[least - 1 :]))


def _spread(x: Doubles, w: Doubles) -> float:
    if len(x) < 2:
        return float("nan")
    mean = (w * x).sum() / w.sum()
    return float(np.sqrt((w * (x - mean) ** 2).sum() / (len(x) - 1)))


@lru_cache(maxsize=256)
def limit_of(run_length: float) -> float:
    """The limit of both sums at which false alarms come `run_length` runs apart on average; 1.25 runs at least."""
    target = np.log(max(run_length, run_length_of(_LEAST)))
    above = 1.0
    while np.log(run_length_of(above)) < target:
        above *= 2
    found: float = scipy.optimize.brentq(
        lambda limit: np.log(run_length_of(limit)) - target, _LEAST, above, xtol=1e-4
    )
    return found


def run_length_of(limit: float) -> float:
    """The mean number of runs to a false alarm of the two sums with this limit: a Markov chain of the sum's states.

    The sum is cut into states of equal width, the first of half of it around 0 (Brook and Evans, section 3). Of the two
    sides at once it is half of one side's.
    """
    width = 2 * limit / (2 * _STATES - 1)
    place = width * np.arange(_STATES)
    upper = scipy.special.ndtr(place[None, :] + width / 2 - place[:, None] + ALLOWANCE)
    lower = scipy.special.ndtr(place[None, :] - width / 2 - place[:, None] + ALLOWANCE)
    chance = upper - lower
    chance[:, 0] = upper[:, 0]
    length: Doubles = scipy.linalg.solve(np.eye(_STATES) - chance, np.ones(_STATES))
    return float(length[0] / 2)


@lru_cache(maxsize=256)
def fewest_runs(limit: float, overlap: float = 0.0) -> int:
    """The fewest runs in which the sum can cross the limit: each value is larger than all before it."""
    total, runs = 0.0, 0
    while total < limit:
        runs += 1
        score = damping(overlap) * float(scipy.special.ndtri(1 - 0.5 / runs))
        total = max(0.0, total + score - ALLOWANCE)
    return runs


@lru_cache(maxsize=256)
def detectable(limit: float, history: int, runs: int, overlap: float = 0.0) -> float | None:
    """The smallest lasting change, in standard deviations of a value, that so many runs after it find with 80 % power.

    Simulated on normal values, always the same ones. None where no change, however large, is found so soon: values can
    be no more than the largest of all.

    Parameters
    ----------
    limit
        Of the sums.
    history
        Runs of the control before the change; of more than 200 as many are taken.
    runs
        Runs after it.
    overlap
        As in `control`.
    """
    before = min(history, _LONGEST)
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(before, _SERIES)), rng.normal(size=(runs, _SERIES))

    def found(change: float) -> float:
        sums, crossed = np.zeros(_SERIES), np.zeros(_SERIES, bool)
        for run in range(runs):
            value = new[run] + change
            below = (old < value).sum(axis=0) + (new[:run] < new[run]).sum(axis=0) + 0.5
            score = damping(overlap) * scipy.special.ndtri(below / (before + run + 1))
            sums = np.maximum(0.0, sums + score - ALLOWANCE)
            crossed |= sums >= limit
        return float(crossed.mean())

    largest = 20.0  # beyond all of the history: a larger change has the same ranks
    if found(largest) < POWER:
        return None
    low = 0.0
    for _ in range(12):
        middle = (low + largest) / 2
        low, largest = (low, middle) if found(middle) >= POWER else (middle, largest)
    return largest
