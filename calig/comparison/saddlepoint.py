"""Tails of permutation distributions by saddlepoint, many tests at once: for what is too much to count out.

Sums of multiples of one number lie on a lattice. There the tail begins half a step before the sum, and a step has its
length (the second of Daniels' corrections for continuity): without it p is too small by up to a half. Sums that come in
clumps, as where a few values are large and about equal, are nearly on a lattice. No formula helps there; they are known
by their characteristic function, which comes back at the frequency of the clumps.

References
----------
H. E. Daniels, *Tail Probability Approximations*, Int. Stat. Review 55, 1987; J. Robinson, *Saddlepoint Approximations
for Permutation Tests and Confidence Intervals*, JRSS B 44, 1982; I. M. Skovgaard, *Saddlepoint Expansions for
Conditional Distributions*, J. Appl. Prob. 24, 1987; J. G. Booth, R. W. Butler, *Randomization Distributions and
Saddlepoint Approximations in Generalized Linear Models*, Biometrika 77, 1990.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are first used

from calig.bootstrap import Doubles

Counts = npt.NDArray[np.int64]

_STEPS = 80  # of Newton's method, halvings included
_FREQUENCIES = np.arange(
    4.0, 44
)  # in inverse standard deviations of the sum: clumps 0.15 of one apart, or more
_CLUMPED = (
    -6.0
)  # log of the characteristic function: where it is nowhere above, tails are within 10 % (measured)
_BENT = 0.5  # log of u / w, which is 0 for normal sums: where few large values are all on one side, it is off
_MANY = 300  # values of a test: with more, no clumps are looked for
_NEAR = (
    0.01  # standard deviations from the mean, where the formula is 0 / 0; p is within 1 % of what it is there
)


def signs_tails(
    values: Doubles, times: Doubles, starts: Counts, sums: Doubles, span: Doubles
) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """Chance that values with chance signs sum to as much or more, from K(t) = Σ log cosh(t·value).

    Parameters
    ----------
    values
        (d,) distinct ones, above 0, test after test, with a mean square of 1 in each.
    times
        (d,) how often each is there.
    starts
        (k,) where each test's values begin.
    sums
        (k,) the sum of each test, 0 or more and less than the largest that there is.
    span
        (k,) the number that all values are multiples of; 0 where there is none.

    Returns
    -------
    (k,)
        The chance, by the Lugannani-Rice formula.
    (k,)
        Whether it may be far off, as where sums are clumped.
    """
    lengths = np.diff(np.append(starts, len(values)))
    square = _sum(times * values**2, starts)
    aim = np.maximum(sums - span, _NEAR * np.sqrt(square))  # sums are 2 spans apart
    t = aim / square
    for _ in range(_STEPS):  # K' is concave: Newton comes from below and never passes
        slope = np.tanh(np.repeat(t, lengths) * values)
        curvature = _sum(times * values**2 * (1 - slope**2), starts)
        short = aim - _sum(times * values * slope, starts)
        if np.all(np.abs(short) <= 1e-9 * aim):
            break
        t = t + short / np.maximum(curvature, 1e-300)
    z = np.repeat(t, lengths) * values
    cumulant = _sum(times * (z + np.log1p(np.exp(-2 * z)) - np.log(2)), starts)
    chances = np.full(len(values), 0.5), scipy.special.expit(2 * z)
    clumped = _clumped(2 * values, times, starts, chances, span, free=False)
    tail, bent = _tail(t * aim - cumulant, _step(t, 2 * span) * np.sqrt(curvature))
    return tail, clumped | bent


def draws_tails(
    values: Doubles, times: Doubles, starts: Counts, drawn: Doubles, sums: Doubles, span: Doubles
) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """Chance that so many values, drawn without replacement, sum to as much or more.

    From K(s, t) = Σ log(1 − π + π·exp(s + t·value)), π being the share that is drawn.

    Parameters
    ----------
    values
        (d,) distinct ones, test after test, with mean 0 and mean square 1 in each.
    times
        (d,) how often each is there.
    starts
        (k,) where each test's values begin.
    drawn
        (k,) how many are drawn.
    sums
        (k,) the sum of each test, 0 or more and less than the largest that there is.
    span
        (k,) the number that all differences of values are multiples of; 0 where there is none.

    Returns
    -------
    (k,)
        The chance, by Skovgaard's double saddlepoint.
    (k,)
        Whether it may be far off, as where sums are clumped.
    """
    total = _sum(times, starts)
    middle = drawn * (total - drawn) / total
    aim = np.maximum(sums - span / 2, _NEAR * np.sqrt(middle))
    log_odds = np.log(drawn / (total - drawn))
    (s, t), least, curvature = _saddle(values, times, np.stack([drawn, aim]), log_odds, starts)
    lengths = np.diff(np.append(starts, len(values)))
    tilted = scipy.special.expit(np.repeat(log_odds + s, lengths) + np.repeat(t, lengths) * values)
    chances = np.repeat(drawn / total, lengths), tilted
    clumped = _clumped(values, times, starts, chances, span / 2, free=True)
    tail, bent = _tail(-least, _step(t, span) * np.sqrt(curvature / middle))
    return tail, clumped | bent


def _saddle(
    x: Doubles, times: Doubles, aim: Doubles, log_odds: Doubles, starts: Counts
) -> tuple[Doubles, Doubles, Doubles]:
    """Minimise L(s, t) = K(s, t) − (s, t)·aim, convex, by Newton's method with halved steps.

    Returns (2, k) s and t, and (k,) each L and the determinant of the second derivatives there.
    """
    sizes = np.diff(np.append(starts, len(x)))
    place, step = np.zeros_like(aim), np.zeros_like(aim)
    value, share = np.full(len(starts), np.inf), np.ones(len(starts))
    fall, curvature = np.zeros(len(starts)), np.ones(len(starts))
    offset = -_sum(times, starts) * np.log1p(np.exp(log_odds))  # log(1 − π)
    done = np.zeros(len(starts), bool)
    for _ in range(_STEPS):
        trial = place + share * step
        z = np.repeat(log_odds + trial[0], sizes) + np.repeat(trial[1], sizes) * x
        found = _sum(times * np.logaddexp(0, z), starts) + offset - (trial * aim).sum(axis=0)
        better = found <= value + 1e-4 * share * fall + 1e-12
        chance = scipy.special.expit(z)
        spread = times * chance * (1 - chance)
        chance = times * chance
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
        done |= (better & (-fall <= 1e-12)) | (share < 1e-9)
        if done.all():
            break
    return place, value, curvature


def _clumped(
    values: Doubles,
    times: Doubles,
    starts: Counts,
    chances: Sequence[Doubles],
    half_span: Doubles,
    free: bool,
) -> npt.NDArray[np.bool_]:
    """Whether the characteristic function of sums of values, each there with its chance, comes back.

    Parameters
    ----------
    values, times, starts
        As of `draws_tails`.
    chances
        (d,) each; several, of which any may make it come back.
    half_span
        (k,) half of what the sums are apart on a lattice, 0 if they are on none; the lattice itself does not count.
    free
        Whether it is given how many values there are, so that a number added to all of them changes nothing.

    Returns
    -------
    (k,)
    """
    found = np.zeros(len(starts), bool)
    lengths = np.diff(np.append(starts, len(values)))
    rows = np.flatnonzero(_sum(times, starts) <= _MANY)
    keep = np.repeat(_sum(times, starts) <= _MANY, lengths)
    values, times, lengths = values[keep], times[keep], lengths[rows]
    starts = np.cumsum(lengths) - lengths
    if not len(rows):
        return found
    for chance in chances:
        variance = chance[keep] * (1 - chance[keep])
        weight = times * variance
        total = np.maximum(_sum(weight, starts), 1e-300)
        centre = _sum(weight * values, starts) / total if free else np.zeros(len(rows))
        spread = np.sqrt(_sum(weight * (values - np.repeat(centre, lengths)) ** 2, starts)) + 1e-300
        for frequencies in np.array_split(_FREQUENCIES, min(len(_FREQUENCIES), 1 + len(values) // 2000)):
            frequency = frequencies[:, None] / spread
            angle = np.repeat(frequency, lengths, axis=1) * values
            if free:
                turn = np.arctan2(_sum(weight * np.sin(angle), starts), _sum(weight * np.cos(angle), starts))
                angle = angle - np.repeat(turn, lengths, axis=1)
            sizes = np.log(np.maximum(1 - 2 * variance * (1 - np.cos(angle)), 1e-300))
            back = (_sum(times * sizes, starts) / 2 > _CLUMPED) & (frequency * half_span[rows] < 1)
            found[rows] |= back.any(axis=0)
    return found


def _step(t: Doubles, span: Doubles) -> Doubles:
    """2·sinh(t·span / 2) / span, which is t where the span is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(span > 0, 2 * np.sinh(np.minimum(t * span / 2, 700)) / span, t)


def _tail(half_square: Doubles, u: Doubles) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """P(beyond) by Lugannani and Rice, w = √(2·half_square) and u, 0 to 1; and whether w and u are far apart."""
    w = np.sqrt(2 * np.maximum(half_square, 1e-300))
    found: Doubles = scipy.stats.norm.sf(w) + scipy.stats.norm.pdf(w) * (1 / u - 1 / w)
    return np.clip(found, 0, 1), np.abs(np.log(u / w)) > _BENT


def _sum(values: Doubles, starts: Counts) -> Doubles:
    found: Doubles = np.add.reduceat(values, starts, axis=-1)
    return found
