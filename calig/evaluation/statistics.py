"""Methods compared on the same documents: means, paired differences, and who wins how often, with 95 % intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calig.attribution.quadrature import Float64
from calig.bootstrap import mean_intervals

LOWER_IS_BETTER = frozenset(
    (
        *("sufficiency", "sufficiency_eraser", "log_ratio", "log_odds_as_published"),
        *("auc_positive", "curve_positive"),
        *("randomisation", "sensitivity_max", "determinism", "batch_invariance", "context_control"),
    )
)
"""Metrics of which the smaller number is the better; of all others the larger."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One method's number over documents, beside a reference method's. NaN where there is no document.

    Attributes
    ----------
    documents, mean, low, high
        Documents on which the method has a value, their mean, and its 95 % interval.
    pairs, difference, difference_low, difference_high
        Documents on which the reference has one too, the mean of the method's less the reference's, and its interval.
    win_rate
        The share of those documents on which the method is better, ties counting half.
    """

    documents: int
    mean: float
    low: float
    high: float
    pairs: int
    difference: float
    difference_low: float
    difference_high: float
    win_rate: float


def paired(values: Float64, reference: int, lower_is_better: bool = False) -> list[Compared]:
    """Compare methods on the same documents.

    Intervals are percentile bootstrap intervals over documents, seeded by their number: methods that have values on
    the same documents share the resamples, and numbers do not depend on which methods are compared.

    Parameters
    ----------
    values
        (m, n) each method's value on each document; NaN where it has none. Such a document is left out of that
        method's mean, and of its difference to the reference, which needs both.
    reference
        The row that the others are compared to; compared to itself, its difference is 0 and its win rate a half.
    lower_is_better
        Which way round the metric is, as `LOWER_IS_BETTER` says.

    References
    ----------
    B. Efron, R. Tibshirani, *An Introduction to the Bootstrap*, 1993, section 13.3.
    """
    values = np.asarray(values, dtype=np.float64)
    differences = values - values[reference]
    found = []
    for own, change in zip(values, differences, strict=True):
        own, change = own[~np.isnan(own)], change[~np.isnan(change)]
        better = np.sign(-change if lower_is_better else change)
        won = float((better.mean() + 1) / 2) if len(change) else float("nan")
        found.append(Compared(len(own), *_mean(own), len(change), *_mean(change), won))
    return found


def _mean(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """A mean and its interval."""
    if not len(values):
        return (float("nan"),) * 3
    low, high = mean_intervals(values[None])[0]
    return float(values.mean()), float(low), float(high)
