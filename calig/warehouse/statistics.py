"""Methods compared on the same documents: means, paired differences, and who wins how often, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from calig.bootstrap import Doubles, mean_intervals

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
        Documents on which the method has a value, their mean, and its 95 % interval (NaN of too few for one).
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


def paired(values: Doubles, reference: int, lower_is_better: bool = False) -> list[Compared]:
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
    own = [row[~np.isnan(row)] for row in values]
    changes = [row[~np.isnan(row)] for row in values - values[reference]]
    found = zip(own, _means(own), changes, _means(changes), strict=True)
    return [
        Compared(len(row), *mean, len(change), *difference, _wins(change, lower_is_better))
        for row, mean, change, difference in found
    ]


def _wins(change: Doubles, lower_is_better: bool) -> float:
    signs = np.sign(-change if lower_is_better else change)
    return float((signs.mean() + 1) / 2) if len(change) else float("nan")


def _means(samples: Sequence[Doubles]) -> list[tuple[float, float, float]]:
    """Mean and interval of each sample; those of one size go through the bootstrap together."""
    found = [(float("nan"),) * 3] * len(samples)
    for size in {len(sample) for sample in samples} - {0}:
        places = [place for place, sample in enumerate(samples) if len(sample) == size]
        stacked = np.stack([samples[place] for place in places])
        intervals = mean_intervals(stacked)
        for place, mean, (low, high) in zip(places, stacked.mean(axis=1), intervals, strict=True):
            found[place] = float(mean), float(low), float(high)
    return found


def disagreement(scores: Sequence[Doubles]) -> float | None:
    """How far methods disagree on a document: 1 less the mean Spearman correlation over pairs of methods.

    Parameters
    ----------
    scores
        Per method, (U,) scores of the document's units. One that gives all units the same, or a number that is not
        finite, has no correlation with any.

    Returns
    -------
    From 0, the same order, to 2; None where no pair has a correlation.
    """
    ranked = [_ranks(own) for own in scores if len(own) > 1 and np.isfinite(own).all() and np.ptp(own) > 0]
    pairs = [float(np.corrcoef(one, other)[0, 1]) for one, other in combinations(ranked, 2)]
    return 1 - float(np.mean(pairs)) if pairs else None


def _ranks(values: Doubles) -> Doubles:
    """(U,) ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Doubles = (counts.cumsum() - (counts - 1) / 2)[places]
    return ranks
