"""Do two runs' numbers differ by more than chance? Permutation tests, many at once, with tails by saddlepoint.

Under no change it is chance which of the two runs a document fell to (two samples), or which run gave which of its two
numbers (pairs). That holds whatever the numbers' distribution; of Student's t it does not.

Measured, with nothing changed, on a million samples each (`python -m tests.calig.comparison.calibration`): how many
have p ≤ 1e-4, over how many should have. At 1e-5, where there should be ten, the permutation test has 0 to 17.

    numbers                          documents   Welch's t   permutation
    normal                           10 + 10          0.94          1.17
                                      8 + 40          3.64          0.89
                                      5 + 200        12.0           1.08
    lognormal                        20 + 20          0.04          1.01
                                      8 + 40         14.9           1.12
                                      5 + 200       352             0.95
                                     15 + 200       111             0.97
    one in five large, else about 0   8 + 40         21.7           0.90
                                      5 + 200      3279             0.66
                                     15 + 200       362             1.02

Of pairs, Student's t finds too few (lognormal, 20 pairs: 0.06 times; permutation 0.88), and on changes of one size and
chance signs far too many. With few documents the permutation test has few p-values, and none that are small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are first used

from calig.bootstrap import Doubles

Counts = npt.NDArray[np.int64]

SCREEN = 0.2
"""Beyond this p-value of Student's t it stands as it is: no such test can come out."""

_STEPS = 80  # of Newton's method, halvings included
_EXACT = 1e-9  # relative to the spread: differences of sums below are none


@dataclass(frozen=True, slots=True)
class Sums:
    """What is known of k samples: (k,) number of values, mean, and variance with n − 1 (NaN where n < 2)."""

    count: Doubles
    mean: Doubles
    variance: Doubles

    @classmethod
    def of(cls, values: Doubles) -> Sums:
        """Those of one sample of values."""
        variance = values.var(ddof=1) if len(values) > 1 else np.nan
        mean = values.mean() if len(values) else np.nan
        return cls(*(np.array([x], dtype=np.float64) for x in (len(values), mean, variance)))


def t_interval(a: Sums, b: Sums | None = None) -> Doubles:
    """(k, 2) 95 % interval of the mean (`b` None), or of the mean of `b` less that of `a` (Welch's t)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if b is None:
            mean, square, freedom = a.mean, a.variance / a.count, a.count - 1
        else:
            parts = a.variance / a.count, b.variance / b.count
            mean, square = b.mean - a.mean, parts[0] + parts[1]
            freedom = square**2 / (parts[0] ** 2 / (a.count - 1) + parts[1] ** 2 / (b.count - 1))
        freedom = np.where((square == 0) & np.isnan(freedom), 1, freedom)
        half = scipy.stats.t.ppf(0.975, freedom) * np.sqrt(square)
    return np.stack([mean - half, mean + half], axis=-1)


def paired_t(change: Sums) -> Doubles:
    """(k,) two-sided p-values of Student's t that the mean change is 0; NaN where all changes are 0 or n < 2."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(change.mean) / np.sqrt(change.variance / change.count)
        p: Doubles = 2 * scipy.stats.t.sf(t, change.count - 1)
    return p


def samples_t(a: Sums, b: Sums) -> Doubles:
    """(k,) two-sided p-values of Student's t, variances pooled, that the means are equal; NaN where all is constant."""
    freedom = a.count + b.count - 2
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = ((a.count - 1) * a.variance + (b.count - 1) * b.variance) / freedom
        t = np.abs(b.mean - a.mean) / np.sqrt(pooled * (1 / a.count + 1 / b.count))
        p: Doubles = 2 * scipy.stats.t.sf(t, freedom)
    return p


def paired_floor(count: Doubles) -> Doubles:
    """(k,) smallest p-value of `paired_p` with so many pairs: all changes go one way, of 2ⁿ ways."""
    floor: Doubles = np.minimum(1, 2.0 ** (1 - np.asarray(count, dtype=np.float64)))
    return floor


def samples_floor(first: Doubles, second: Doubles) -> Doubles:
    """(k,) smallest p-value of `samples_p` with so many values: one of all ways to draw the second sample, doubled."""
    floor: Doubles = np.minimum(1, 2 * np.exp(-_log_choose(first + second, second)))
    return floor


def paired_p(change: Doubles, starts: Counts) -> Doubles:
    """Two-sided p-values of no change, under which each document's change could as well have the other sign.

    Parameters
    ----------
    change
        (n,) the run's value less the reference's, document by document, test after test.
    starts
        (k,) where each test's documents begin.

    Returns
    -------
    (k,)
        Twice the share of the 2ⁿ ways to choose signs whose sum is as large: by the Lugannani-Rice formula from
        K(t) = Σ log cosh(t·change). NaN where all changes are 0. Meant for p below `SCREEN`: near 1 it is inexact.

    References
    ----------
    H. E. Daniels, *Discussion of the paper by D. R. Cox*, JRSS B 20, 1958; J. Robinson, *Saddlepoint Approximations for
    Permutation Tests and Confidence Intervals*, JRSS B 44, 1982.
    """
    if not len(starts):
        return np.empty(0)
    sizes = np.diff(np.append(starts, len(change)))
    scale = np.sqrt(_sum(change**2, starts) / sizes)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.abs(change) / np.repeat(scale, sizes)
        total = np.abs(_sum(change, starts)) / scale
    extreme = total >= _sum(x, starts) * (1 - _EXACT)
    target = np.where(extreme | np.isnan(total), 0, total)
    x = np.nan_to_num(x)
    t = np.zeros(len(starts))
    for _ in range(_STEPS):  # K' is concave: Newton comes from below and never passes
        slope = np.tanh(np.repeat(t, sizes) * x)
        curvature = _sum(x**2 * (1 - slope**2), starts)
        short = target - _sum(x * slope, starts)
        if np.all(np.abs(short) <= _EXACT * np.maximum(target, 1)):
            break
        t = t + short / np.maximum(curvature, 1e-300)
    z = np.repeat(t, sizes) * x
    cumulant = _sum(z + np.log1p(np.exp(-2 * z)) - np.log(2), starts)
    tail = _tail(t * target - cumulant, t * np.sqrt(curvature))
    p = np.maximum(2 * np.where(extreme, 0, tail), paired_floor(sizes))
    return np.where(scale > 0, np.minimum(p, 1), np.nan)


def samples_p(values: Doubles, second: npt.NDArray[np.bool_], starts: Counts) -> Doubles:
    """Two-sided p-values of no change, under which any of the documents could as well be the second sample's.

    Parameters
    ----------
    values
        (n,) both samples' values, test after test.
    second
        (n,) which of them are the second sample's.
    starts
        (k,) where each test's values begin.

    Returns
    -------
    (k,)
        Twice the share of the ways to draw the second sample whose sum is as far out on its side: by Skovgaard's double
        saddlepoint from K(s, t) = Σ log(1 − π + π·exp(s + t·value)), π the second sample's part. NaN where all values
        are equal. Meant for p below `SCREEN`: near 1 it is inexact.

    References
    ----------
    I. M. Skovgaard, *Saddlepoint Expansions for Conditional Distributions*, J. Appl. Prob. 24, 1987; J. G. Booth,
    R. W. Butler, *Randomization Distributions and Saddlepoint Approximations in Generalized Linear Models*, Biometrika
    77, 1990.
    """
    if not len(starts):
        return np.empty(0)
    sizes = np.diff(np.append(starts, len(values)))
    drawn = _sum(second.astype(np.float64), starts)
    x = values - np.repeat(_sum(values, starts) / sizes, sizes)
    scale = np.sqrt(_sum(x**2, starts) / sizes)
    flat = scale <= _EXACT * np.sqrt(_sum(values**2, starts) / sizes)
    x = x / np.repeat(np.where(flat, 1, scale), sizes)
    total = _sum(x * second, starts)
    # by symmetry the upper tail alone
    x, total = x * np.repeat(np.where(total < 0, -1.0, 1.0), sizes), np.abs(total)
    extreme = total >= _largest(x, drawn, starts, sizes) - _EXACT * sizes
    aim = np.where(extreme | flat, 0, total)
    log_odds = np.log(drawn / (sizes - drawn))
    t, least, curvature = _saddle(x, np.stack([drawn, aim]), log_odds, starts, sizes)
    middle = drawn * (sizes - drawn) / sizes
    tail = _tail(-least, t * np.sqrt(curvature / middle))
    p = np.maximum(2 * np.where(extreme, 0, tail), samples_floor(sizes - drawn, drawn))
    return np.where(flat, np.nan, np.minimum(p, 1))


def _saddle(
    x: Doubles, aim: Doubles, log_odds: Doubles, starts: Counts, sizes: Counts
) -> tuple[Doubles, Doubles, Doubles]:
    """Minimise L(s, t) = K(s, t) − (s, t)·aim, convex, by Newton's method with halved steps.

    Returns (k,) each: t, L, and the determinant of the second derivatives there.
    """
    place, step = np.zeros_like(aim), np.zeros_like(aim)
    value, share = np.full(len(starts), np.inf), np.ones(len(starts))
    fall, curvature = np.zeros(len(starts)), np.ones(len(starts))
    offset = -np.log1p(np.exp(log_odds))  # log(1 − π)
    done = np.zeros(len(starts), bool)
    for _ in range(_STEPS):
        trial = place + share * step
        z = np.repeat(log_odds + trial[0], sizes) + np.repeat(trial[1], sizes) * x
        found = _sum(np.logaddexp(0, z), starts) + sizes * offset - (trial * aim).sum(axis=0)
        better = found <= value + 1e-4 * share * fall + 1e-12
        chance = scipy.special.expit(z)
        spread = chance * (1 - chance)
        gradient = np.stack([_sum(chance, starts), _sum(chance * x, starts)]) - aim
        ss, st, tt = (_sum(spread * x**power, starts) for power in range(3))
        determinant = np.maximum(ss * tt - st**2, 1e-300)
        place = np.where(better & ~done, trial, place)
        value = np.where(better & ~done, found, value)
        curvature = np.where(better & ~done, determinant, curvature)
        newton = (
            -np.stack([tt * gradient[0] - st * gradient[1], ss * gradient[1] - st * gradient[0]])
            / determinant
        )
        fall = np.where(better, (newton * gradient).sum(axis=0), fall)
        step = np.where(better, newton, step)
        share = np.where(better, 1.0, share / 2)
        done |= (better & (-fall <= 1e-16)) | (share < 1e-9)
        if done.all():
            break
    return place[1], value, curvature


def _tail(half_square: Doubles, u: Doubles) -> Doubles:
    """P(beyond) by Lugannani and Rice, w = √(2·half_square) and u; between 0 and 1."""
    w = np.sqrt(2 * np.maximum(half_square, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = scipy.stats.norm.sf(w) + scipy.stats.norm.pdf(w) * (1 / u - 1 / w)
    return np.where((w < 1e-4) | (u < 1e-4), 0.5, np.clip(np.nan_to_num(tail, nan=0.5), 0, 1))


def _largest(x: Doubles, drawn: Doubles, starts: Counts, sizes: Counts) -> Doubles:
    """(k,) the largest sum that so many of each test's values can have."""
    tests = np.repeat(np.arange(len(starts)), sizes)
    order = np.lexsort((-x, tests))
    rank = np.arange(len(x)) - np.repeat(starts, sizes)
    return _sum(np.where(rank < np.repeat(drawn, sizes), x[order], 0), starts)


def _sum(values: Doubles, starts: Counts) -> Doubles:
    found: Doubles = np.add.reduceat(values, starts)
    return found


def _log_choose(total: Doubles, drawn: Doubles) -> Doubles:
    found: Doubles = (
        scipy.special.gammaln(total + 1)
        - scipy.special.gammaln(drawn + 1)
        - scipy.special.gammaln(total - drawn + 1)
    )
    return found
