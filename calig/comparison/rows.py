"""One number of the documents of two runs compared: a mean, or a share."""

from __future__ import annotations

from typing import Any

import numpy as np

from calig.bootstrap import Doubles, mean_intervals
from calig.comparison.drift import cohens_d
from calig.comparison.permutation import (
    SCREEN,
    Sums,
    paired_p,
    paired_t,
    samples_p,
    samples_t,
    t_interval,
)
from calig.comparison.shares import mcnemar_p, share_interval, shares_p

Row = dict[str, Any]
_START = np.zeros(1, dtype=np.int64)


def both(a: Doubles, b: Doubles, paired: bool) -> tuple[Doubles, Doubles]:
    """The values that are there: of pairs, those of documents that have both."""
    if paired:
        there = ~(np.isnan(a) | np.isnan(b))
        return a[there], b[there]
    return a[~np.isnan(a)], b[~np.isnan(b)]


def mean_row(a: Doubles, b: Doubles, paired: bool) -> Row:
    """Compare the means of two runs' values (NaN: none); paired, the two are of the same documents in one order.

    Returns
    -------
    Numbers of documents, `a`, `b`, their difference with its 95 % interval (Student's, Welch's), its p-value, and as
    `size` Cohen's d; NaN where there is none.
    """
    a, b = both(a, b, paired)
    one, other = Sums.of(a), Sums.of(b)
    if paired:
        change = Sums.of(b - a)
        p, interval = paired_t(change)[0], t_interval(change)[0]
        if p < SCREEN:
            p = paired_p(b - a, _START)[0]
    else:
        p, interval = samples_t(one, other)[0], t_interval(one, other)[0]
        if p < SCREEN:
            second = np.arange(len(a) + len(b)) >= len(a)
            p = samples_p(np.concatenate([a, b]), second, _START)[0]
    return {
        **_sides(a, b),
        "low": float(interval[0]),
        "high": float(interval[1]),
        "p": float(p),
        "size": cohens_d(a, b),
    }


def share_row(a: Doubles, b: Doubles, paired: bool) -> Row:
    """Compare the shares of two runs' documents with a property: values 0 and 1, NaN where it is not known.

    The p-value is McNemar's exact one of pairs, else Fisher's; the interval of pairs a bootstrap's, else Newcombe's.
    Other than of `mean_row`, `size` is the difference itself.
    """
    a, b = both(a, b, paired)
    low = high = p = float("nan")
    if len(a) and len(b):
        if paired:
            low, high = map(float, mean_intervals((b - a)[None])[0])
            p = mcnemar_p(int((a > b).sum()), int((b > a).sum()))
        else:
            counts = float(a.sum()), float(len(a)), float(b.sum()), float(len(b))
            low, high = share_interval(*counts)
            p = float(shares_p(*(np.array([count]) for count in counts))[0])
    sides = _sides(a, b)
    return {**sides, "low": low, "high": high, "p": p, "size": sides["difference"]}


def _sides(a: Doubles, b: Doubles) -> Row:
    means = [float(x.mean()) if len(x) else float("nan") for x in (a, b)]
    return {
        "documents_a": len(a),
        "documents_b": len(b),
        "a": means[0],
        "b": means[1],
        "difference": means[1] - means[0],
    }
