"""One number of the documents of two runs compared: a mean, or a share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from calig.bootstrap import Doubles
from calig.comparison.adjust import adjusted
from calig.comparison.drift import cohens_d, pooled_deviation
from calig.comparison.limits import Limits
from calig.comparison.permutation import Sums, paired_floor, paired_p, samples_floor, samples_p, t_interval
from calig.comparison.shares import mcnemar_p, paired_share_interval, share_interval, shares_p
from calig.comparison.states import states, within

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
    `size` Cohen's d; NaN where there is none. `unit` is what a size of 1 is in the measure's own unit, and `varies`
    whether any values differ that are compared.
    """
    a, b = both(a, b, paired)
    interval = t_interval(Sums.of(b - a)) if paired else t_interval(Sums.of(a), Sums.of(b))
    p = float("nan")
    if min(len(a), len(b)) > 1:
        if paired:
            p = float(paired_p(b - a, _START)[0])
        else:
            p = float(samples_p(np.concatenate([a, b]), np.arange(len(a) + len(b)) >= len(a), _START)[0])
    return {
        **_sides(a, b),
        "low": float(interval[0, 0]),
        "high": float(interval[0, 1]),
        "p": p,
        "size": cohens_d(a, b),
        "unit": pooled_deviation(a, b) if len(a) and len(b) else float("nan"),
        "varies": _vary(a, b, paired),
    }


def share_row(a: Doubles, b: Doubles, paired: bool) -> Row:
    """Compare the shares of two runs' documents with a property: values 0 and 1, NaN where it is not known.

    The p-value is McNemar's exact one of pairs, else Fisher's; the interval of pairs Agresti's and Min's, else
    Newcombe's. Other than of `mean_row`, `size` is the difference itself.
    """
    a, b = both(a, b, paired)
    low = high = p = float("nan")
    if len(a) and len(b):
        if paired:
            lost, gained = int((a > b).sum()), int((b > a).sum())
            low, high = paired_share_interval(lost, gained, len(a))
            p = mcnemar_p(lost, gained)
        else:
            counts = [np.array([x], np.float64) for x in (a.sum(), len(a), b.sum(), len(b))]
            low, high = map(float, share_interval(*counts)[0])
            p = float(shares_p(*counts)[0])
    sides = _sides(a, b)
    varies = _vary(a, b, paired)
    return {
        **sides,
        "low": low,
        "high": high,
        "p": p,
        "size": sides["difference"],
        "unit": 1.0,
        "varies": varies,
    }


def judge(rows: list[Row], paired: bool, limits: Limits, least: Sequence[float]) -> None:
    """Add to each row `q`, `changed` and `state`; `p` becomes NaN where no test is made.

    None is made of a row whose `tested` is False, of fewer than `limits.documents` documents of a run, nor of so few
    that no difference between them could come out. Documents without any difference are a test that found none, and do
    not burden the others: whether there is one does not depend on which run they fell to.

    Parameters
    ----------
    rows
        As `mean_row` and `share_row` give them, of one family of tests.
    paired
        Whether documents are paired.
    limits
        When a difference is a change.
    least
        The smallest `size` of each row that counts as a change.
    """
    if not rows:
        return
    count_a, count_b = (np.array([row[f"documents_{side}"] for row in rows], np.float64) for side in "ab")
    floor = paired_floor(count_a) if paired else samples_floor(count_a, count_b)
    made = (floor <= limits.family) & (np.minimum(count_a, count_b) >= limits.documents)
    made &= np.array([row.get("tested", True) for row in rows])
    varies = np.array([row["varies"] for row in rows])
    p = np.where(made & varies, [row["p"] for row in rows], np.nan)
    q = adjusted(p, limits.family)
    p, q = (np.where(made & ~varies, 1.0, own) for own in (p, q))
    size, low, high, unit = (np.array([row[key] for row in rows]) for key in ("size", "low", "high", "unit"))
    smallest = np.array(least)
    changed = (q <= limits.family) & (np.abs(size) >= smallest)
    said = states(changed, ~np.isnan(p), within(low, high, smallest * unit))
    for row, *own in zip(rows, p, q, changed, said, strict=True):
        row |= {"p": float(own[0]), "q": float(own[1]), "changed": bool(own[2]), "state": own[3]}


def _vary(a: Doubles, b: Doubles, paired: bool) -> bool:
    """Whether any of the values differ: of pairs from each other's, else at all."""
    if paired:
        return bool((a != b).any())
    values = np.concatenate([a, b])
    return bool(len(values) and np.ptp(values) > 0)


def ratio_row(a: Doubles, b: Doubles, paired: bool) -> Row:
    """Compare ratios of sums: Σ above / Σ below over the documents of each run, as `mean_row` compares means.

    The test is of each document's linearised value R + (above − R·below) / mean(below), R being the ratio over the
    documents of both runs: their mean in a run is to first order its ratio, and under no change they can be exchanged
    like any value. The interval is the delta method's, of each run's value linearised about its own ratio.

    Parameters
    ----------
    a, b
        (2, n) above and below of the reference's documents, and of the run's: not negative, NaN where there is
        none; paired, of the same documents in one order.
    paired
        Whether they are.

    References
    ----------
    W. G. Cochran, *Sampling Techniques*, 1977, section 6.3.
    """
    above = both(a[0], b[0], paired)
    below = both(a[1], b[1], paired)
    totals = [float(own.sum()) for own in below]
    if not min(totals):
        missing = dict.fromkeys(("a", "b", "difference", "low", "high", "p", "size", "unit"), float("nan"))
        return _sides(*above) | missing | {"varies": False}
    pooled = sum(float(own.sum()) for own in above) / sum(totals)
    scale = sum(totals) / sum(map(len, below))
    linear = [pooled + (x - pooled * y) / scale for x, y in zip(above, below, strict=True)]
    row = mean_row(linear[0], linear[1], paired)
    ratios = [float(x.sum()) / total for x, total in zip(above, totals, strict=True)]
    own = [ratio + (x - ratio * y) / y.mean() for x, y, ratio in zip(above, below, ratios, strict=True)]
    interval = t_interval(Sums.of(own[1] - own[0])) if paired else t_interval(*map(Sums.of, own))
    low, high = map(float, interval[0])
    return row | {
        "a": ratios[0],
        "b": ratios[1],
        "difference": ratios[1] - ratios[0],
        "low": low,
        "high": high,
    }


def _sides(a: Doubles, b: Doubles) -> Row:
    means = [float(x.mean()) if len(x) else float("nan") for x in (a, b)]
    return {
        "documents_a": len(a),
        "documents_b": len(b),
        "a": means[0],
        "b": means[1],
        "difference": means[1] - means[0],
    }
