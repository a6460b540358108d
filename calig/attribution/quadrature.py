"""Nested quadrature on [0, 1]: ladders whose every rung reuses the nodes of the one below.

The midpoint rule with n nodes sits inside the one with 3n, the trapezoid rule with n inside the one with 2n − 1, so a
document climbs until its error estimate is small enough and never evaluates a node twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """Nested rules of one kind, coarse to fine.

    Attributes
    ----------
    nodes
        All nodes in the order in which climbing needs them: rung k uses the first `counts[k]`.
    counts
        Number of nodes of each rung.
    weights
        Per rung, the weights of its nodes, in the order of `nodes`; they sum to 1.
    gain
        By how much one rung up divides the error of a smooth integrand: refinement ** order.
    """

    nodes: Float64
    counts: tuple[int, ...]
    weights: tuple[Float64, ...]
    gain: float

    @property
    def rungs(self) -> int:
        """Number of rungs."""
        return len(self.counts)

    def new_nodes(self, rung: int, start: int) -> Float64:
        """Nodes that reaching `rung` adds when the first `start` nodes have been evaluated."""
        return self.nodes[start : self.counts[rung]]


def _midpoint(n: int) -> dict[Fraction, float]:
    return {Fraction(2 * k + 1, 2 * n): 1 / n for k in range(n)}


def _trapezoid(n: int) -> dict[Fraction, float]:
    return {Fraction(k, n - 1): (0.5 if k in (0, n - 1) else 1.0) / (n - 1) for k in range(n)}


_RULES: dict[str, tuple[Callable[[int], dict[Fraction, float]], int, Callable[[int], int], float]] = {
    "midpoint": (_midpoint, 2, lambda n: 3 * n, 3.0**2),
    "trapezoid": (_trapezoid, 3, lambda n: 2 * n - 1, 2.0**2),
}


def ladder(rule: str, max_nodes: int) -> Ladder:
    """The ladder of a rule, up to the last rung of at most `max_nodes` nodes, and of at least two rungs.

    Rungs of `midpoint`: 2, 6, 18, 54, 162, 486, …; of `trapezoid`: 3, 5, 9, 17, 33, 65, ….
    """
    make, n, finer, gain = _RULES[rule]
    rules = [make(n), make(finer(n))]
    while (n := finer(len(rules[-1]))) <= max_nodes:
        rules.append(make(n))
    order: dict[Fraction, None] = {}
    for one in rules:
        order.update(dict.fromkeys(sorted(one)))
    sequence = list(order)
    return Ladder(
        nodes=np.array([float(node) for node in sequence]),
        counts=tuple(len(one) for one in rules),
        weights=tuple(np.array([one[node] for node in sequence[: len(one)]]) for one in rules),
        gain=gain,
    )
