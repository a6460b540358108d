"""Rules of quadrature on [0, 1], as interpolants that are integrated panel by panel.

Panels lie between breaks: the nodes, and the ends of the path. A rule is its nodes (n,) and a matrix P (p, n) from
values there to the integral over each panel; the integral is their sum. `Mesh` gives every document its own nodes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Protocol

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre

Float64 = npt.NDArray[np.float64]

RULES = ("auto", "midpoint", "trapezoid", "gauss-kronrod", "gauss-legendre")

_LEFT = 0.8
"""Share of the tolerance that the panels which are not halved may hold together."""


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What one document's samples amount to: the integral (T,), and each panel's part of the error estimate (p,).

    `weights` (n,) are those of the nodes in the integral.
    """

    integral: Float64
    parts: Float64
    weights: Float64

    @property
    def estimate(self) -> float:
        """The estimated relative error."""
        return float(self.parts.sum())


class Rule(Protocol):
    """How a document climbs: which nodes first, how they are integrated, and which come next."""

    @property
    def ends(self) -> bool:
        """Whether the ends of the path, which cost nothing, are among the nodes."""

    def first(self, start: int) -> Float64:
        """Nodes of the first attempt."""

    def next(self, nodes: Float64, verdict: Verdict, tolerance: float) -> Float64 | None:
        """Nodes of the next attempt; None at the cap."""

    def panels(self, nodes: Float64) -> Float64:
        """P (..., p, n) of nodes (..., n)."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """`auto`: cubic splines on a mesh of its own for each document, halved where the error is.

    A spline on equal panels integrates as fast as the trapezoid rule does periodic functions, at any bump it resolves,
    with its ends put right; `start` is the number of equal panels to begin with.
    """

    max_nodes: int
    steps: int | None = None

    @property
    def ends(self) -> bool:
        """They are."""
        return True

    def first(self, start: int) -> Float64:
        """Breaks of `start` equal panels, or as many nodes as were asked for."""
        panels = start if self.steps is None else self.steps - 1
        return np.arange(panels + 1) / panels

    def next(self, nodes: Float64, verdict: Verdict, tolerance: float) -> Float64 | None:
        """Halve the fewest panels that leave the others well within the tolerance."""
        worst = np.argsort(-verdict.parts, kind="stable")
        left = verdict.estimate - np.cumsum(verdict.parts[worst])
        count = int(np.argmax(left <= _LEFT * tolerance)) + 1
        halved = worst[: min(count, self.max_nodes - len(nodes))]
        if len(halved) == 0:
            return None
        return np.sort(np.concatenate([nodes, (nodes[halved] + nodes[halved + 1]) / 2]))

    def panels(self, nodes: Float64) -> Float64:
        """Panel weights of the not-a-knot cubic spline through nodes (..., n), n ≥ 4."""
        return spline_panels(nodes)


@dataclass(frozen=True, slots=True)
class Ladder:
    """Rules of one name and ever more nodes; `start` is the rung to begin with. Nodes serve every rung they are in."""

    name: str
    counts: tuple[int, ...]

    @property
    def ends(self) -> bool:
        """Of these rules, the trapezoid's alone has them."""
        return self.name == "trapezoid"

    def first(self, start: int) -> Float64:
        """Nodes of rung `start`, or of the last."""
        return _nodes(self.name, self.counts[min(start, len(self.counts) - 1)])

    def next(self, nodes: Float64, verdict: Verdict, tolerance: float) -> Float64 | None:
        """Nodes of the rung above."""
        above = self.counts.index(len(nodes)) + 1
        return _nodes(self.name, self.counts[above]) if above < len(self.counts) else None

    def panels(self, nodes: Float64) -> Float64:
        """The rung's own weights, for every document the same."""
        weights = _panels(self.name, nodes.shape[-1])
        return np.broadcast_to(weights, (*nodes.shape[:-1], *weights.shape))


_LEAST = {"auto": 4, "midpoint": 1, "trapezoid": 2, "gauss-kronrod": 3, "gauss-legendre": 1}
"""Fewest nodes of each rule."""

_RUNGS = {
    "midpoint": tuple(2 * 3**k for k in range(64)),
    "trapezoid": tuple(2 * 2**k + 1 for k in range(64)),
    "gauss-kronrod": (3, 7, 15, 31, 63),
    "gauss-legendre": tuple(4 * 2**k for k in range(7)),
}
"""Nodes per rung. Finding those of Gauss–Legendre's next would take longer than a mesh does with less."""


def rule(name: str, max_nodes: int, steps: int | None = None) -> Rule:
    """The rule of a name, of at most `max_nodes` nodes (or its coarsest), or of exactly `steps`.

    Rungs of `midpoint`: 2, 6, 18, 54, …; of `trapezoid`: 3, 5, 9, 17, …; of `gauss-kronrod`: 3, 7, 15, 31, 63, each
    the optimal extension of the one before (Patterson 1968); of `gauss-legendre`: 4, 8, …, 256, which share no nodes.

    Raises
    ------
    ValueError
        The rule has no form with so many steps; says which it has.
    """
    forms = _RUNGS[name] if name == "gauss-kronrod" else None
    if steps is not None and (steps < _LEAST[name] or (forms and steps not in forms)):
        allowed = f"one of {', '.join(map(str, forms))}" if forms else f"{_LEAST[name]} or more"
        raise ValueError(f"{name} takes {allowed} steps, not {steps}")
    if name == "auto":
        return Mesh(max_nodes, steps)
    if steps is not None:
        return Ladder(name, (steps,))
    coarsest, *finer = _RUNGS[name]
    return Ladder(name, (coarsest, *(count for count in finer if count <= max_nodes)))


@cache
def _nodes(name: str, count: int) -> Float64:
    if name == "midpoint":
        return (2 * np.arange(count) + 1) / (2 * count)
    if name == "trapezoid":
        return np.arange(count) / (count - 1)
    if name == "gauss-legendre":
        return (legendre.leggauss(count)[0] + 1) / 2
    table: dict[str, list[float]] = json.loads(files(__package__).joinpath("patterson.json").read_text())
    return np.sort(np.array(table["nodes"][:count]))


@cache
def _panels(name: str, count: int) -> Float64:
    linear = name in ("midpoint", "trapezoid")
    return linear_panels(_nodes(name, count)) if linear else polynomial_panels(_nodes(name, count))


def breaks(nodes: Float64) -> Float64:
    """Where panels meet (..., p+1): the nodes, and the ends of the path."""
    low = [np.zeros((*nodes.shape[:-1], 1))] if (nodes[..., 0] > 0).all() else []
    high = [np.ones((*nodes.shape[:-1], 1))] if (nodes[..., -1] < 1).all() else []
    return np.concatenate([*low, nodes, *high], axis=-1)


def linear_panels(nodes: Float64) -> Float64:
    """Panel weights (p, n) of straight lines between nodes (n,), and of constants beyond the outermost."""
    edges = breaks(nodes)
    lines = np.stack([np.interp(edges, nodes, row) for row in np.eye(len(nodes))], axis=1)
    weights: Float64 = np.diff(edges)[:, None] * (lines[1:] + lines[:-1]) / 2
    return weights


def polynomial_panels(nodes: Float64) -> Float64:
    """Panel weights (p, n) of the polynomial through nodes (n,); over all panels, the interpolatory rule's."""
    count = len(nodes)
    cardinal = np.linalg.inv(legendre.legvander(2 * nodes - 1, count - 1))  # (degree, n)
    edges = 2 * breaks(nodes) - 1
    integrals = np.stack([legendre.legval(edges, legendre.legint(row)) for row in np.eye(count)], axis=1)
    weights: Float64 = np.diff(integrals, axis=0) @ cardinal / 2
    return weights


def spline_panels(nodes: Float64) -> Float64:
    """Panel weights (..., n−1, n) of the not-a-knot cubic spline through nodes (..., n), n ≥ 4, the ends among them.

    With slopes m of the spline at its nodes, a panel of width h integrates to h(y₀ + y₁)/2 + h²(m₀ − m₁)/12.
    """
    h = np.diff(nodes)[..., None]
    slopes, same = spline_slopes(nodes), np.eye(nodes.shape[-1])
    weights: Float64 = h / 2 * (same[1:] + same[:-1]) + h**2 / 12 * (slopes[..., :-1, :] - slopes[..., 1:, :])
    return weights


def spline_slopes(nodes: Float64) -> Float64:
    """The matrix (..., n, n) from values at nodes (..., n) to slopes there of the not-a-knot cubic spline, n ≥ 4.

    Slopes solve the usual tridiagonal system (de Boor, A Practical Guide to Splines, ch. IV).
    """
    count = nodes.shape[-1]
    h = np.diff(nodes)
    system = np.zeros((*nodes.shape[:-1], count, count))
    right = np.zeros_like(system)
    for i in range(1, count - 1):
        left, width = h[..., i - 1], h[..., i]
        system[..., i, i - 1], system[..., i, i], system[..., i, i + 1] = width, 2 * (left + width), left
        right[..., i, i - 1] = -3 * width / left
        right[..., i, i + 1] = 3 * left / width
        right[..., i, i] = -right[..., i, i - 1] - right[..., i, i + 1]
    for end, a, b, sign in ((0, h[..., 0], h[..., 1], 1), (count - 1, h[..., -1], h[..., -2], -1)):
        one, two = end + sign, end + 2 * sign
        system[..., end, end], system[..., end, one] = b, a + b
        near = sign * (a + 2 * (a + b)) * b / (a * (a + b))
        far = sign * a**2 / (b * (a + b))
        right[..., end, end], right[..., end, one], right[..., end, two] = -near, near - far, far
    slopes: Float64 = np.linalg.solve(system, right)
    return slopes
