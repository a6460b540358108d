"""Do two runs' numbers differ by more than chance? Permutation tests, many at once.

Under no change it is chance which of the two runs a document fell to (two samples), or which run gave which of its two
numbers (pairs). That holds whatever the numbers' distribution; of Student's t it does not.

p is twice the chance of a sum as far out as the one found or farther, on its side, at most 1. Equal sums are as far
out: with ties many arrangements are. The chance is exact where the sums can be listed (`exact`) or lie on a lattice
that is small enough (`grid`). Elsewhere it is from the saddlepoint, or, where that would be off, from a fine grid.

Measured (`python -m tests.calig.comparison.calibration`; tests/benchmarks/results/permutation.md): exact p-values are
those of all arrangements; the approximation, forced upon 20 to 60 documents, is within 10 % for p of 1e-6 to 0.2. With
nothing changed, on 30,000 samples each, so many have p ≤ 1e-3, over how many should have (by chance 0.65 to 1.37):

    numbers                          documents   Welch's t   permutation
    normal                            8 + 40          1.97          1.17
    lognormal                        20 + 20          0.03          0.90
                                      8 + 40          8.03          1.20
                                      5 + 200        60.5           1.00
                                     15 + 200        27.0           1.23
                                     40 pairs         0.33          0.93
    one in five large, else about 0   8 + 40         25.2           0.83
                                      5 + 200       326             0.97
    three in five 0, else lognormal   8 + 40          8.50          0.70
                                     15 + 200        45.2           0.63
    1 to 8, mostly 1 to 3             8 + 40         10.1           0.33
                                     40 pairs         1.13          0.83
    0 and 1                           8 + 40         18.3           0.10
                                     15 + 200        70.8           0.27
                                     40 pairs         0.83          0.37

With few documents, or ties, the permutation test has few p-values, and none that are small.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are first used

from calig.bootstrap import LEAST, Doubles
from calig.comparison.exact import FAR, draws_tail, log_choose, signs_tail
from calig.comparison.grid import draws_fine_grid, draws_grid, signs_fine_grid, signs_grid
from calig.comparison.saddlepoint import Counts as Counts
from calig.comparison.saddlepoint import draws_tails, signs_tails

_EXACT = 1e-9  # relative to the spread: differences of values and of sums below are none
_SEVERAL = 200  # arrangements as far out: with fewer the saddlepoint is off
_FINE = 1e-3  # standard deviations: multiples of less are as good as continuous


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
    """(k, 2) 95 % interval of the mean (`b` None), or of the mean of `b` less that of `a` (Welch's t).

    NaN where a sample has fewer than `LEAST` values.
    """
    enough = a.count >= LEAST if b is None else np.minimum(a.count, b.count) >= LEAST
    with np.errstate(divide="ignore", invalid="ignore"):
        if b is None:
            mean, square, freedom = a.mean, a.variance / a.count, a.count - 1
        else:
            parts = a.variance / a.count, b.variance / b.count
            mean, square = b.mean - a.mean, parts[0] + parts[1]
            freedom = square**2 / (parts[0] ** 2 / (a.count - 1) + parts[1] ** 2 / (b.count - 1))
        freedom = np.where((square == 0) & np.isnan(freedom), 1, freedom)
        half = np.where(enough, scipy.stats.t.ppf(0.975, freedom) * np.sqrt(square), np.nan)
    return np.stack([mean - half, mean + half], axis=-1)


def paired_floor(count: npt.ArrayLike) -> Doubles:
    """(k,) smallest p-value of `paired_p` with so many changes other than 0: all go one way, of 2ⁿ ways.

    Where it is not known how many are 0, the number of pairs gives a lower bound.
    """
    floor: Doubles = np.minimum(1, 2.0 ** (1 - np.asarray(count, dtype=np.float64)))
    return floor


def samples_floor(first: Doubles, second: Doubles) -> Doubles:
    """(k,) smallest p-value of `samples_p` with so many values: one of all ways to draw the second sample, doubled.

    With ties it is a lower bound: `samples_values_floor`.
    """
    floor: Doubles = np.minimum(1, 2 * np.exp(-log_choose(first + second, second)))
    return floor


def paired_values_floor(change: Doubles, starts: Counts) -> Doubles:
    """(k,) smallest p-value of `paired_p` with changes of these sizes, whatever their signs; 1 where all are 0."""
    return paired_floor(np.array([(~_zero(own)).sum() for own in _each(change, starts)]))


def samples_values_floor(values: Doubles, second: npt.NDArray[np.bool_], starts: Counts) -> Doubles:
    """(k,) smallest p-value of `samples_p` with these values, however they fall to the two samples; 1 where all agree.

    One sample has the largest of all: of tied values, as many ways to draw it as there are to choose among them.
    """
    floor = np.ones(len(starts))
    for place, (own, side) in enumerate(zip(_each(values, starts), _each(second, starts), strict=True)):
        off, drawn = _standardised(own), int(side.sum())
        if off is not None:
            times = _distinct(off, side)[1]
            floor[place] = min(1.0, 2 * min(_top_chance(times, drawn), _top_chance(times[::-1], drawn)))
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
        Twice the share of the 2ⁿ ways to choose signs whose sum is as large or larger, at most 1. NaN where all changes
        are 0.
    """
    p: Doubles = np.full(len(starts), np.nan)
    left: list[tuple[int, Doubles, Doubles, float, float, float]] = []
    for place, own in enumerate(_each(change, starts)):
        changed = own[~_zero(own)]
        if not len(changed):
            continue
        changed = changed / np.sqrt(np.mean(changed**2))
        sizes, times, rises = _distinct(np.abs(changed), changed > 0)
        total, most = abs(float(changed.sum())), float(sizes @ times)
        least, span = total - _EXACT * most, _span(sizes)
        if least <= 0:
            p[place] = 1
            continue
        if total >= most * (1 - _EXACT):
            p[place] = paired_floor(times.sum())
            continue
        tail = signs_tail(sizes, times, least)
        if tail is None and span:
            tail = signs_grid(sizes, times, least, span)
        if tail is None:
            found = float(np.exp(log_choose(times, rises).sum() - times.sum() * math.log(2)))
            left.append((place, sizes, times, total, span, found))
        else:
            p[place] = 2 * tail
    if left:
        places, values, counts, sums, spans, own_chance = zip(*left, strict=True)
        laid_out = *_laid_out(values, counts), np.array(sums)
        tails, clumped = signs_tails(*laid_out, np.array(spans))
        apart = signs_tails(*laid_out, np.zeros(len(left)))[0] if any(spans) else tails
        tails = np.maximum(tails, apart + np.array(own_chance) / 2)
        far = tails < _SEVERAL * np.array(own_chance)
        for number in np.flatnonzero(clumped | far):
            _, sizes, times, total, span, found = left[number]
            tail = signs_tail(sizes, times, total * (1 - _EXACT), FAR) if far[number] else None
            if tail is None:
                tail = signs_fine_grid(sizes, times, total, span, found)
            tails[number] = tails[number] if tail is None else tail
        p[list(places)] = np.maximum(2 * tails, paired_floor([own.sum() for own in counts]))
    bounded: Doubles = np.minimum(p, 1)
    return bounded


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
        Twice the share of the ways to draw the second sample whose sum is as far out or farther on its side, at most 1.
        NaN where all values are equal, or a sample has none.
    """
    p: Doubles = np.full(len(starts), np.nan)
    left: list[tuple[int, Doubles, Doubles, int, float, float, float]] = []
    for place, (own, side) in enumerate(zip(_each(values, starts), _each(second, starts), strict=True)):
        off, drawn = _standardised(own), int(side.sum())
        if off is None or not 0 < drawn < len(own):
            continue
        total = float(off[side].sum())
        # by symmetry the upper tail alone
        sizes, times, taken = _distinct(off if total > 0 else -off, side)
        total, tolerance = abs(total), _EXACT * len(own)
        least, span = total - tolerance, _span(sizes - sizes[0])
        if least <= 0:
            p[place] = 1
            continue
        top = _top_chance(times, drawn)
        if least >= float(_top(times, drawn) @ sizes) - 2 * tolerance:
            p[place] = 2 * top
            continue
        tail = draws_tail(sizes, times, drawn, least)
        if tail is None and span:
            tail = draws_grid(sizes, times, drawn, least, span)
        if tail is None:
            found = float(np.exp(log_choose(times, taken).sum() - log_choose(times.sum(), drawn)))
            left.append((place, sizes, times, drawn, total, span, found))
        else:
            p[place] = 2 * max(tail, top)
    if left:
        places, distinct, counts, drawn_, sums, spans, own_chance = zip(*left, strict=True)
        laid_out = *_laid_out(distinct, counts), np.array(drawn_, dtype=np.float64), np.array(sums)
        tails, clumped = draws_tails(*laid_out, np.array(spans))
        apart = draws_tails(*laid_out, np.zeros(len(left)))[0] if any(spans) else tails
        tails = np.maximum(tails, apart + np.array(own_chance) / 2)
        far = tails < _SEVERAL * np.array(own_chance)
        for number in np.flatnonzero(clumped | far):
            _, sizes, times, drawn, total, span, found = left[number]
            least = total - _EXACT * times.sum()
            tail = draws_tail(sizes, times, drawn, least, FAR) if far[number] else None
            if tail is None:
                tail = draws_fine_grid(sizes, times, drawn, total, span, found)
            tails[number] = tails[number] if tail is None else tail
        tops = [_top_chance(own, few) for own, few in zip(counts, drawn_, strict=True)]
        p[list(places)] = 2 * np.maximum(tails, tops)
    bounded: Doubles = np.minimum(p, 1)
    return bounded


def _each(values: Any, starts: Counts) -> Iterator[Any]:
    """The values test by test."""
    for start, end in itertools.pairwise([*starts.tolist(), len(values)]):
        yield values[start:end]


def _standardised(values: Doubles) -> Doubles | None:
    """The values less their mean over their spread; None where they agree."""
    off = values - values.mean()
    spread = float(np.sqrt(np.mean(off**2)))
    return None if spread <= _EXACT * float(np.sqrt(np.mean(values**2))) else off / spread


def _zero(change: Doubles) -> npt.NDArray[np.bool_]:
    """Which changes are 0, or as good as 0 beside the others."""
    found: npt.NDArray[np.bool_] = np.abs(change) <= _EXACT * np.sqrt(np.mean(change**2))
    return found


def _distinct(values: Doubles, marked: npt.NDArray[np.bool_]) -> tuple[Doubles, Doubles, Doubles]:
    """Return the distinct values, rising, how often each is there, and how often marked; their spread is about 1."""
    order = np.argsort(values)
    values = values[order]
    first = np.flatnonzero(np.diff(values, prepend=-np.inf) > _EXACT)
    times = np.diff(first, append=len(values)).astype(np.float64)
    distinct = values if len(first) == len(values) else np.add.reduceat(values, first) / times
    return distinct, times, np.add.reduceat(marked[order].astype(np.float64), first)


def _span(values: Doubles) -> float:
    """The largest number that all values, 0 or more and rising, are multiples of; 0 if that is below `_FINE`.

    Euclid's algorithm, with all values at once.
    """
    rest = values[values > _EXACT]
    span = float(rest.min())
    while span > _FINE:
        rest = np.abs(values - span * np.rint(values / span))
        rest = rest[rest > _EXACT * values[-1]]
        if not len(rest):
            return float(values[-1]) / round(float(values[-1]) / span)
        span = float(rest.min())
    return 0.0


def _top(times: Doubles, drawn: int) -> Doubles:
    """How many of each distinct value, rising, are among the largest so many."""
    found: Doubles = np.clip(drawn - (times.sum() - np.cumsum(times)), 0, times)
    return found


def _top_chance(times: Doubles, drawn: int) -> float:
    """Chance that so many values drawn are the largest, or tied with them."""
    ways = log_choose(times, _top(times, drawn)).sum()
    return math.exp(float(ways - log_choose(times.sum(), drawn)))


def _laid_out(values: Sequence[Doubles], times: Sequence[Doubles]) -> tuple[Doubles, Doubles, Counts]:
    """Test after test in one array, and where each begins."""
    lengths = [len(own) for own in values]
    return np.concatenate(values), np.concatenate(times), np.cumsum([0, *lengths[:-1]])
