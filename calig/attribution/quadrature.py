"""Nested quadrature on [0, 1]: ladders whose every rung reuses the nodes of the one below.

The midpoint rule with n nodes sits inside the one with 3n, and Patterson's rules of 1, 3, 7, 15, … nodes, the optimal
nested extensions of Gauss's and Kronrod's, inside one another; so a document climbs until its error estimate is small
enough and never evaluates a node twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

RULES = ("midpoint", "gauss-patterson")


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
    caution
        Per rung, the error as a share of the difference to the rung below, before a pilot has measured it. For
        midpoint twice Richardson's 1/(3² − 1); for Patterson's rules, which gain faster, bounds seen with room.
    """

    nodes: Float64
    counts: tuple[int, ...]
    weights: tuple[Float64, ...]
    caution: tuple[float, ...]

    @property
    def top(self) -> int:
        """Index of the finest rung."""
        return len(self.counts) - 1

    def new_nodes(self, rung: int, done: int) -> Float64:
        """Nodes that `rung` needs beyond the first `done`."""
        return self.nodes[done : self.counts[rung]]


@cache
def ladder(rule: str, max_nodes: int) -> Ladder:
    """The ladder of a rule up to the last rung of at most `max_nodes` nodes, and of two rungs at least.

    Rungs of `midpoint`: 2, 6, 18, 54, 162, 486, …; of `gauss-patterson`: 1, 3, 7, 15, 31, 63, 127.
    """
    if rule == "midpoint":
        return _midpoint(max_nodes)
    return _patterson(max_nodes)


def _midpoint(max_nodes: int) -> Ladder:
    counts = [2, 6]
    while 3 * counts[-1] <= max_nodes:
        counts.append(3 * counts[-1])
    order: dict[Fraction, None] = {}
    for n in counts:
        order.update(dict.fromkeys(Fraction(2 * k + 1, 2 * n) for k in range(n)))
    return Ladder(
        nodes=np.array([float(node) for node in order]),
        counts=tuple(counts),
        weights=tuple(np.full(n, 1 / n) for n in counts),
        caution=(2 / 8,) * len(counts),
    )


def _patterson(max_nodes: int) -> Ladder:
    table = json.loads(files(__package__).joinpath("patterson.json").read_text())
    weights = [np.array(row) for row in table["weights"] if len(row) <= max(max_nodes, 3)]
    return Ladder(
        nodes=np.array(table["nodes"][: len(weights[-1])]),
        counts=tuple(len(row) for row in weights),
        weights=tuple(weights),
        caution=(1.0, 1.0, 0.25, *(0.2,) * 5)[: len(weights)],
    )
