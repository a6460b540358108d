"""How far two distributions lie apart, in the measures people know: PSI, Jensen-Shannon, Cohen's d."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calig.bootstrap import Doubles

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
    p, q = ((x + SMOOTHING) / (x + SMOOTHING).sum() for x in (first, second))
    used = int(((first + second) > 0).sum())
    floor = 0.0 if paired else (used - 1) * (1 / total_a + 1 / total_b)
    index = float(((q - p) * np.log(q / p)).sum())
    divergence = jensen_shannon(first / total_a, second / total_b)
    return max(0.0, index - floor), max(0.0, divergence - floor / (8 * np.log(2)))


def jensen_shannon(p: Doubles, q: Doubles) -> float:
    """Jensen-Shannon divergence of two distributions over the same bins, in bits: 0 to 1."""
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(x > 0, x * np.log2(x / middle), 0) for x in (p, q)]
    return float(sum(part.sum() for part in parts) / 2)


def stability(a: Doubles, b: Doubles, paired: bool = False) -> tuple[float, float]:
    """PSI and Jensen-Shannon divergence, as in `of_counts`, of values over tenths of the reference `a`.

    A value that makes up more than a tenth of the reference has a bin of its own.
    """
    if not len(a) or not len(b):
        return float("nan"), float("nan")
    cuts = np.quantile(a, np.linspace(0, 1, BINS + 1))
    values, times = np.unique(cuts, return_counts=True)
    atoms = values[times > 1]
    edges = np.unique(np.concatenate([np.unique(cuts[1:-1]), atoms, np.nextafter(atoms, np.inf)]))
    places = [np.searchsorted(edges, x, side="right") for x in (a, b)]
    counts = [np.bincount(own, minlength=len(edges) + 1).astype(np.float64) for own in places]
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
    freedom = len(a) + len(b) - 2
    pooled = float(np.sqrt((a.var() * len(a) + b.var() * len(b)) / freedom)) if freedom else 0.0
    if pooled <= 1e-12 * max(abs(float(a.mean())), abs(float(b.mean()))):
        return (
            0.0
            if abs(difference) <= 1e-9 * max(abs(float(a.mean())), 1e-9)
            else float(np.copysign(np.inf, difference))
        )
    return difference / pooled
