"""What the metrics read of a model's answer: the log-probability of the explained class, or a regression's value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calig.attribution.quadrature import Float64
from calig.records import Head


def log_probabilities(logits: Float64, targets: Sequence[int], head: Head) -> Float64:
    """(n,) log-probability of each row's target; of a regression, its value.

    Finite however small the probability: the log-softmax of the logits (n, C) in float64, where one logit z has become
    (0, z); of several labels, the log-sigmoid of the target's own.
    """
    logits = np.asarray(logits, dtype=np.float64)
    chosen = logits[np.arange(len(logits)), np.asarray(targets, dtype=np.intp)]
    if head == "regression":
        return chosen
    if head == "multi_label":
        return np.asarray(-np.logaddexp(0.0, -chosen))
    return np.asarray(chosen - np.logaddexp.reduce(logits, axis=1))
