"""How far two distributions lie apart, in the measures people know: PSI, Jensen-Shannon, Cohen's d."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calig.bootstrap import Doubles

Codes = npt.NDArray[np.int64]

BINS = 10
SMOOTHING = 0.5  # documents added to each bin, so that an empty one is not infinitely far


def of_counts(
    a: Sequence[float] | Doubles, b: Sequence[float] | Doubles, paired: bool = False
) -> tuple[float, float]:
    """Population stability index and Jensen-Shannon divergence, in bits, of two counts over the same bins.

    Half a document is added to each bin. Two samples of n and m documents from one distribution over B bins have a PSI
    of (B − 1)·(1/n + 1/m), and a divergence of an eighth of it in nats, on average: that is taken off, down to 0.
    Paired documents are no two samples: nothing is taken off. NaN where a side is empty.

    References
    ----------
    B. Yurdakul, *Statistical Properties of Population Stability Index*, 2018, theorem 3.3; J. Lin, *Divergence Measures
    Based on the Shannon Entropy*, IEEE Trans. Inf. Theory 37, 1991.
    """
    first, second = (np.asarray(x, dtype=np.float64) for x in (a, b))
    total_a, total_b = first.sum(), second.sum()
    if not total_a or not total_b:
        return float("nan"), float("nan")
    index = float(indices(first[None], second[None], np.zeros(1, np.int64), paired)[0, 0])
    divergence = jensen_shannon(first / total_a, second / total_b)
    floor = 0.0 if paired else (((first + second) > 0).sum() - 1) * (1 / total_a + 1 / total_b)
    return index, max(0.0, divergence - float(floor) / (8 * np.log(2)))


def jensen_shannon(p: Doubles, q: Doubles) -> float:
    """Jensen-Shannon divergence of two distributions over the same bins, in bits: 0 to 1."""
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(x > 0, x * np.log2(x / middle), 0) for x in (p, q)]
    return float(sum(part.sum() for part in parts) / 2)


def indices(a: Doubles, b: Doubles, starts: Codes, paired: bool) -> Doubles:
    """Population stability indices, as `of_counts` has them, of many measures in many comparisons.

    Parameters
    ----------
    a, b
        (r, bins) counts of r comparisons, the bins of one measure after those of another.
    starts
        (k,) where each measure's bins begin.
    paired
        Whether documents are paired.

    Returns
    -------
    (r, k)
        NaN where a side has no document.
    """
    sizes = np.diff(np.append(starts, a.shape[1]))

    def sums(x: Doubles) -> Doubles:
        found: Doubles = np.add.reduceat(x, starts, axis=1)
        return found

    of_a, of_b = sums(a), sums(b)
    smoothing = SMOOTHING * sizes
    spread = (np.repeat(total + smoothing, sizes, axis=1) for total in (of_a, of_b))
    p, q = ((x + SMOOTHING) / total for x, total in zip((a, b), spread, strict=True))
    found = sums((q - p) * np.log(q / p))
    with np.errstate(divide="ignore", invalid="ignore"):
        if not paired:
            found = found - (sums((a + b > 0).astype(np.float64)) - 1) * (1 / of_a + 1 / of_b)
        return np.where((of_a > 0) & (of_b > 0), np.maximum(found, 0), np.nan)


@dataclass(frozen=True, slots=True)
class Binned:
    """Documents of two runs, each measure's values as numbers of bins.

    Attributes
    ----------
    a, b
        (n, k) and (m, k) the bin of each document under each measure; −1 where it has no value.
    sizes
        (k,) number of bins.
    """

    a: Codes
    b: Codes
    sizes: Codes

    @classmethod
    def of_values(cls, a: Doubles, b: Doubles) -> Binned:
        """Values (n, k) and (m, k), NaN for none, over tenths of both runs together (see `codes`)."""
        places = [np.empty((len(side), side.shape[1]), dtype=np.int64) for side in (a, b)]
        sizes = np.empty(a.shape[1], dtype=np.int64)
        for i in range(a.shape[1]):
            places[0][:, i], places[1][:, i], sizes[i] = codes(a[:, i], b[:, i])
        return cls(places[0], places[1], sizes)

    @property
    def starts(self) -> Codes:
        """(k,) where each measure's bins begin, one after another."""
        found: Codes = np.cumsum(self.sizes) - self.sizes
        return found

    def counts(self) -> tuple[Doubles, Doubles]:
        """(bins,) documents of each run in each bin."""
        bins = int(self.sizes.sum())
        a, b = (
            np.bincount((side + self.starts)[side >= 0], minlength=bins).astype(np.float64)
            for side in (self.a, self.b)
        )
        return a, b

    def held(self, side: Codes) -> npt.NDArray[np.float32]:
        """(n, bins) 1 where a document of a side is in a bin, else 0."""
        found = np.zeros((len(side), int(self.sizes.sum())), dtype=np.float32)
        rows, columns = np.nonzero(side >= 0)
        found[rows, side[rows, columns] + self.starts[columns]] = 1
        return found


def codes(a: Doubles, b: Doubles) -> tuple[Codes, Codes, int]:
    """Number the bins of two samples' values: tenths of both together, so that neither is the measure of the other.

    A value that makes up more than a tenth of them has a bin of its own. Bins without values are not counted.

    Returns
    -------
    Each sample's bins, −1 for NaN, and how many bins there are.
    """
    there = [x[~np.isnan(x)] for x in (a, b)]
    both = np.concatenate(there)
    if not len(both):
        return np.full(len(a), -1), np.full(len(b), -1), 1
    cuts = np.quantile(both, np.linspace(0, 1, BINS + 1))
    values, times = np.unique(cuts, return_counts=True)
    atoms = values[times > 1]
    edges = np.unique(np.concatenate([np.unique(cuts[1:-1]), atoms, np.nextafter(atoms, np.inf)]))
    used, places = np.unique(np.searchsorted(edges, both, side="right"), return_inverse=True)
    numbered = np.split(places.astype(np.int64), [len(there[0])])
    found = []
    for side, own in zip((a, b), numbered, strict=True):
        column = np.full(len(side), -1, dtype=np.int64)
        column[~np.isnan(side)] = own
        found.append(column)
    return found[0], found[1], len(used)


def stability(a: Doubles, b: Doubles, paired: bool = False) -> tuple[float, float]:
    """PSI and Jensen-Shannon divergence, as in `of_counts`, of values over tenths of both runs together.

    A value that makes up more than a tenth of them has a bin of its own.
    """
    if not len(a) or not len(b):
        return float("nan"), float("nan")
    places_a, places_b, size = codes(a, b)
    counts = [np.bincount(own, minlength=size).astype(np.float64) for own in (places_a, places_b)]
    return of_counts(counts[0], counts[1], paired)


def cohens_d(a: Doubles, b: Doubles) -> float:
    """The mean of `b` less that of `a` over their pooled standard deviation; 0 where nothing varies or differs.

    Infinite where nothing varies and the means differ; NaN where a side is empty.

    References
    ----------
    J. Cohen, *Statistical Power Analysis for the Behavioral Sciences*, 1988, section 2.2.
    """
    if not len(a) or not len(b):
        return float("nan")
    difference = float(b.mean() - a.mean())
    pooled = pooled_deviation(a, b)
    if pooled <= 1e-12 * max(abs(float(a.mean())), abs(float(b.mean()))):
        return (
            0.0
            if abs(difference) <= 1e-9 * max(abs(float(a.mean())), 1e-9)
            else float(np.copysign(np.inf, difference))
        )
    return difference / pooled


def pooled_deviation(a: Doubles, b: Doubles) -> float:
    """The standard deviation within two samples of one value or more each; 0 of one value each."""
    freedom = len(a) + len(b) - 2
    return float(np.sqrt((a.var() * len(a) + b.var() * len(b)) / freedom)) if freedom else 0.0
