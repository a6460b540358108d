"""Labels that fit the predictions much better when the classes are taken in another order.

Sets and models of the same task often number its classes differently (entailment is 0 in one, 2 in another): then the
accuracy says nothing. The order that fits best is the assignment of labels to classes with the most documents above
what their shares alone would give.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import lgamma, log

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom

GAIN = 0.1
"""By how much the accuracy must be better."""
AGREEMENT = 0.3
"""Cohen's kappa that the labels must reach in the other order: they do fit, then, and not by chance or size alone."""
LEVEL = 1e-6
"""Probability, at most, of calling an order better that is not, over all orders there are."""


@dataclass(frozen=True, slots=True)
class Order:
    """The class that each label fits, by index of the label, and the accuracy that follows."""

    classes: tuple[int, ...]
    accuracy: float


def other_order(counts: Iterable[tuple[int, int, int]], classes: int) -> Order | None:
    """Find the order in which labels fit the predictions clearly better than in the model's.

    Parameters
    ----------
    counts
        (index of the label, index of the predicted class, documents).
    classes
        How many classes there are, K.

    Returns
    -------
    The order, or None if there is no such. It is better by `GAIN` in accuracy, has a kappa of `AGREEMENT`, and of the
    documents that are right in just one of the two orders more are right in it than an even chance allows: an exact
    sign test, its p-value times the K! orders.
    """
    table = np.zeros((classes, classes))
    for label, predicted, documents in counts:
        table[label, predicted] = documents
    total = table.sum()
    if total == 0:
        return None
    expected = np.outer(table.sum(1), table.sum(0)) / total
    settled = np.eye(classes) / (classes + 1)  # less than a document: a class without any stays where it is
    labels, found = linear_sum_assignment(table - expected + settled, maximize=True)
    right, chance = table[labels, found].sum() / total, expected[labels, found].sum() / total
    moved = labels != found
    better, worse = table[labels, found][moved].sum(), np.diag(table)[moved].sum()
    if chance >= 1 or (right - chance) / (1 - chance) < AGREEMENT or (better - worse) / total < GAIN:
        return None
    p = binom.logsf(better - 1, better + worse, 0.5) + lgamma(classes + 1)
    return Order(tuple(map(int, found)), float(right)) if p <= log(LEVEL) else None
