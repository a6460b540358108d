"""Many tests at once: Benjamini-Hochberg over those that could come out at all."""

from __future__ import annotations

import numpy as np

from calig.bootstrap import Doubles


def adjusted(p: Doubles, alpha: float, floor: Doubles | None = None) -> Doubles:
    """Adjust p-values so that calling those ≤ `alpha` changed keeps the false discovery rate at `alpha`.

    Where nothing changed at all that is the chance of calling anything changed.

    A test whose smallest possible p-value, its floor, could not survive even among those with the smallest ones is not
    made (Tarone), and does not burden the rest (Gilbert): floors depend on how many documents there are and hold a
    word, not on how they fall to the two runs, so that choosing by them favours no outcome.

    Parameters
    ----------
    p
        (k,) p-values; NaN where there is none.
    alpha
        The level that the tests are meant for.
    floor
        (k,) the smallest p-value that each test can have; None: any.

    Returns
    -------
    (k,)
        Adjusted p-values, at most 1; NaN where a test has no p-value, or was not made.

    References
    ----------
    Y. Benjamini, Y. Hochberg, *Controlling the False Discovery Rate*, JRSS B 57, 1995.
    R. E. Tarone, *A Modified Bonferroni Method for Discrete Data*, Biometrics 46, 1990.
    P. B. Gilbert, *A Modified False Discovery Rate Multiple-Comparisons Procedure for Discrete Data*, Applied
    Statistics 54, 2005.
    """
    found = np.full(len(p), np.nan)
    made = ~np.isnan(p)
    if floor is not None:
        made &= floor <= alpha / _tarone(np.sort(floor[made]), alpha)
    places = np.flatnonzero(made)
    order = places[np.argsort(p[places], kind="stable")]
    if len(order):
        raised = p[order] * len(order) / np.arange(1, len(order) + 1)
        found[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1)
    return found


def adjusted_extremes(floor: Doubles) -> Doubles:
    """Adjust the p-values of tests that come out only where they are at their floor.

    Under no change a test does so with a chance of its floor at most, so that any of those with the smallest floors
    does with the sum of theirs at most. That is far less than their number times the largest, as in `adjusted`: the
    floors of words fall by half with each document that holds them.

    Parameters
    ----------
    floor
        (k,) chance under no change.

    Returns
    -------
    (k,)
        The sum of the floors up to each one's own, at most 1.
    """
    order = np.argsort(floor, kind="stable")
    sums = np.cumsum(floor[order])
    last = np.searchsorted(floor[order], floor, side="right") - 1
    found: Doubles = np.minimum(sums[last], 1) if len(floor) else np.empty(0)
    return found


def _tarone(floors: Doubles, alpha: float) -> int:
    """The least k for which no more than k tests have a floor ≤ alpha / k; `floors` are sorted."""
    low, high = 1, max(1, len(floors))
    while low < high:
        k = (low + high) // 2
        if np.searchsorted(floors, alpha / k, side="right") <= k:
            high = k
        else:
            low = k + 1
    return low
