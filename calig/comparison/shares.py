"""Shares of documents compared: exact tests, many at once, and intervals of the difference."""

from __future__ import annotations

import numpy as np
import scipy  # its parts are loaded where they are first used

from calig.bootstrap import LEAST, NORMAL, Doubles
from calig.comparison.exact import log_choose


def shares_p(a: Doubles, of_a: Doubles, b: Doubles, of_b: Doubles) -> Doubles:
    """Two-sided p-values of equal shares a / of_a and b / of_b in two samples (k,): Fisher's exact test.

    Twice the tail of the hypergeometric distribution on the side of the change, at most 1: what `samples_p` gives for
    values 0 and 1. NaN where a sample is empty.
    """
    a, of_a, b, of_b = (np.asarray(x, dtype=np.float64) for x in np.broadcast_arrays(a, of_a, b, of_b))
    p = np.full(a.shape, np.nan)
    there = (of_a > 0) & (of_b > 0)
    for place in np.flatnonzero(there):
        p[place] = _two_sided(int(a[place]), int(of_a[place]), int(b[place]), int(of_b[place]))
    return p


def _two_sided(a: int, of_a: int, b: int, of_b: int) -> float:
    held, total = a + b, of_a + of_b
    low, high = max(0, held - of_a), min(held, of_b)
    # the tail on b's side of the expected count, summed outward from b
    upward = b * total >= held * of_b
    counts = np.arange(*((b, high + 1) if upward else (low, b + 1)), dtype=np.float64)
    tail = float(np.exp(_log_mass(counts, held, of_b, total)).sum())
    return min(1.0, 2 * tail)


def _log_mass(count: Doubles, held: Doubles | int, drawn: Doubles | int, total: Doubles | int) -> Doubles:
    """Log probability that of `drawn` out of `total` documents so many are among the `held`."""
    found: Doubles = (
        log_choose(held, count) + log_choose(total - held, drawn - count) - log_choose(total, drawn)
    )
    return found


def shares_floor(held: Doubles, of_a: Doubles, of_b: Doubles) -> Doubles:
    """(k,) smallest p-value of `shares_p` where so many documents of both samples together hold a word."""
    total = of_a + of_b
    ends = np.maximum(0, held - of_a), np.minimum(held, of_b)
    least = np.minimum(*(_log_mass(end, held, of_b, total) for end in ends))
    floor: Doubles = np.minimum(1, 2 * np.exp(least))
    return floor


def all_in_b(held: Doubles, of_a: Doubles, of_b: Doubles) -> Doubles:
    """(k,) chance that all documents that hold a word, of both samples together, fall to the second."""
    fits = held <= of_b
    log_chance = _log_mass(np.where(fits, held, 0), np.where(fits, held, 0), of_b, of_a + of_b)
    found: Doubles = np.where(fits, np.exp(log_chance), 0)
    return found


def mcnemar_p(lost: int, gained: int) -> float:
    """Two-sided p-value that as many documents lose a property as gain it: exact binomial; NaN where none does.

    References
    ----------
    Q. McNemar, *Note on the Sampling Error of the Difference Between Correlated Proportions*, Psychometrika 12, 1947.
    """
    if lost + gained == 0:
        return float("nan")
    return min(1.0, 2 * float(scipy.stats.binom.cdf(min(lost, gained), lost + gained, 0.5)))


def share_interval(a: Doubles, of_a: Doubles, b: Doubles, of_b: Doubles) -> Doubles:
    """(k, 2) 95 % intervals of b / of_b − a / of_a in two samples: Newcombe's, from the two Wilson intervals.

    NaN where a sample has fewer than `LEAST` documents.

    References
    ----------
    R. G. Newcombe, *Interval Estimation for the Difference Between Independent Proportions*, Stat. Med. 17, 1998,
    method 10.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        (first, low_a, high_a), (second, low_b, high_b) = _wilson(a, of_a), _wilson(b, of_b)
    difference = second - first
    ends = np.stack(
        [
            difference - np.hypot(second - low_b, high_a - first),
            difference + np.hypot(high_b - second, first - low_a),
        ],
        axis=-1,
    )
    return np.where((np.minimum(of_a, of_b) >= LEAST)[:, None], ends, np.nan)


def _wilson(count: Doubles, total: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """The shares, and the ends of their 95 % intervals."""
    square = NORMAL**2
    centre = (count + square / 2) / (total + square)
    half = NORMAL / (total + square) * np.sqrt(count * (total - count) / total + square / 4)
    return count / total, centre - half, centre + half


def paired_share_interval(lost: int, gained: int, pairs: int) -> tuple[float, float]:
    """95 % interval of (gained − lost) / pairs: Wald's, with half a pair added to each cell of the two-by-two table.

    Where no pair differs a bootstrap's would be 0 to 0, as if that were certain of all documents; this one is about
    ±2 / pairs. NaN of fewer than `LEAST` pairs.

    References
    ----------
    A. Agresti, Y. Min, *Simple Improved Confidence Intervals for Comparing Matched Proportions*, Stat. Med. 24, 2005.
    """
    if pairs < LEAST:
        return float("nan"), float("nan")
    total = pairs + 2
    centre = (gained - lost) / total
    half = NORMAL * float(np.sqrt(lost + gained + 1 - (gained - lost) ** 2 / total)) / total
    return max(-1.0, centre - half), min(1.0, centre + half)
