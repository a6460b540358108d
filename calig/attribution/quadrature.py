"""Quadrature along a path on [0, 1], with errors that are measured rather than guessed.

Let g(α) (T,) be the contributions of T tokens at α, and f(α) the explained output: Σ_t g_t(α) = f′(α). Every rule here
is an interpolant of g between breaks, integrated panel by panel: a_j = Σ_k P[j, k]·g(α_k) for the panel from b_j to
b_{j+1}. Each forward pass also gives f at its node, so the panel's exact total is known, and its defect

    R_j = f(b_{j+1}) − f(b_j) − Σ_t a_j,t

is a true error, in one direction of the T. The panel's whole error is taken to be as large relative to a_j as R_j is to
the change of f, but no more than |R_j|, and the rule's is their sum:

    estimate = c · Σ_j |R_j| · ‖a_j‖₂ / max(|Δf_j|, ‖a_j‖₂) / ‖Σ_j a_j‖₂,

with c near 1, and calibrated by a pilot. A narrow bump between nodes, which no difference of two rules need show, shows
in R_j. It also says where to look closer: `Mesh` halves the panels that hold most of the estimate.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
    """What one document's samples amount to: the integral (T,), the estimate, and each panel's part of it (p,)."""

    integral: Float64
    estimate: float
    parts: Float64


class Samples:
    """One document's path at one depth: g (T,) and f at every node evaluated so far, and f at both ends."""

    def __init__(self, start: tuple[Float64, float], end: tuple[Float64, float]) -> None:
        self._rows: dict[float, int] = {0.0: 0, 1.0: 1}
        self.values = np.stack([start[0], end[0]])
        self.outputs = np.array([start[1], end[1]])

    @property
    def evaluated(self) -> int:
        """Nodes evaluated beyond the two ends."""
        return len(self._rows) - 2

    def missing(self, nodes: Float64) -> list[float]:
        """Those of `nodes` not evaluated yet."""
        return [float(a) for a in nodes if float(a) not in self._rows]

    def add(self, nodes: Sequence[float], values: Float64, outputs: Float64) -> None:
        """Take in g (n, T) and f (n,) at new nodes."""
        for node in nodes:
            self._rows[node] = len(self._rows)
        self.values = np.concatenate([self.values, values])
        self.outputs = np.concatenate([self.outputs, outputs])

    def rows(self, nodes: Float64) -> list[int]:
        """Where the nodes' samples are."""
        return [self._rows[float(a)] for a in nodes]

    @property
    def nodes(self) -> Float64:
        """All nodes evaluated, the ends among them, in order."""
        return np.sort(np.array(list(self._rows)))

    def at(self, nodes: Float64) -> tuple[Float64, Float64]:
        """g (n, T) and f (n,) at nodes evaluated."""
        rows = self.rows(nodes)
        return self.values[rows], self.outputs[rows]


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

    @property
    def ends(self) -> bool:
        """They are."""
        return True

    def first(self, start: int) -> Float64:
        """Breaks of `start` equal panels."""
        return np.arange(start + 1) / start

    def next(self, nodes: Float64, verdict: Verdict, tolerance: float) -> Float64 | None:
        """Halve the fewest panels that leave the others well within the tolerance."""
        worst = np.argsort(-verdict.parts, kind="stable")
        left = verdict.parts.sum() - np.cumsum(verdict.parts[worst])
        count = int(np.argmax(left <= _LEFT * tolerance)) + 1
        halved = worst[: min(count, self.max_nodes - len(nodes))]
        if len(halved) == 0:
            return None
        return np.sort(np.concatenate([nodes, (nodes[halved] + nodes[halved + 1]) / 2]))

    def panels(self, nodes: Float64) -> Float64:
        """Panel weights of the not-a-knot cubic spline through nodes (..., n), n ≥ 4."""
        return spline_panels(nodes)


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """Rules of ever more nodes; `start` is the rung to begin with. Nodes serve every rung that they are in."""

    rungs: tuple[Float64, ...]
    weights: tuple[Float64, ...]
    ends: bool

    def first(self, start: int) -> Float64:
        """Nodes of rung `start`, or of the last."""
        return self.rungs[min(start, len(self.rungs) - 1)]

    def next(self, nodes: Float64, verdict: Verdict, tolerance: float) -> Float64 | None:
        """Nodes of the rung above."""
        rung = self._rung(nodes)
        return self.rungs[rung + 1] if rung + 1 < len(self.rungs) else None

    def panels(self, nodes: Float64) -> Float64:
        """The rung's own weights, for every document the same."""
        weights = self.weights[self._rung(nodes)]
        return np.broadcast_to(weights, (*nodes.shape[:-1], *weights.shape))

    def _rung(self, nodes: Float64) -> int:
        return [len(rung) for rung in self.rungs].index(nodes.shape[-1])


@cache
def rule(name: str, max_nodes: int, steps: int | None = None) -> Rule:
    """The rule of a name, of at most `max_nodes` nodes, or of exactly `steps`.

    Rungs of `midpoint`: 2, 6, 18, 54, …; of `trapezoid`: 3, 5, 9, 17, …; of `gauss-kronrod`: 3, 7, 15, 31, 63, each
    the optimal extension of the one before (Patterson 1968); of `gauss-legendre`: 4, 8, 16, …, which share no nodes.

    Raises
    ------
    ValueError
        The rule has no form with so many steps; says which it has.
    """
    if name == "auto":
        least, forms = 4, None
    elif name == "gauss-kronrod":
        least, forms = 3, (3, 7, 15, 31, 63)
    else:
        least, forms = {"midpoint": 1, "trapezoid": 2, "gauss-legendre": 1}[name], None
    if steps is not None and (steps < least or (forms and steps not in forms)):
        allowed = f"one of {', '.join(map(str, forms))}" if forms else f"{least} or more"
        raise ValueError(f"{name} takes {allowed} steps, not {steps}")
    if name == "auto":
        return Mesh(steps or max_nodes)
    if steps is not None:
        counts = [steps]
    else:
        first, grow = {"midpoint": (2, 3), "trapezoid": (2, 2), "gauss-legendre": (4, 2)}.get(name, (0, 0))
        extra = name == "trapezoid"
        counts = list(forms or (first * grow**k + extra for k in range(64)))
        counts = [n for k, n in enumerate(counts) if n <= max_nodes or k == 0]
    nodes = tuple(_nodes(name, n) for n in counts)
    linear = name in ("midpoint", "trapezoid")
    weights = tuple(linear_panels(x) if linear else polynomial_panels(x) for x in nodes)
    return Ladder(nodes, weights, ends=name == "trapezoid")


def _nodes(name: str, count: int) -> Float64:
    if name == "midpoint":
        return (2 * np.arange(count) + 1) / (2 * count)
    if name == "trapezoid":
        return np.arange(count) / (count - 1)
    if name == "gauss-legendre":
        return (legendre.leggauss(count)[0] + 1) / 2
    table: dict[str, list[float]] = json.loads(files(__package__).joinpath("patterson.json").read_text())
    return np.sort(np.array(table["nodes"][:count]))


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


def hermite(node: float, nodes: Float64, values: Float64, slopes: Float64) -> Float64:
    """The piecewise cubic with these values and slopes (n, …) at `nodes` (n,), at any node."""
    j = int(np.clip(np.searchsorted(nodes, node, side="right") - 1, 0, len(nodes) - 2))
    h, t = nodes[j + 1] - nodes[j], (node - nodes[j]) / (nodes[j + 1] - nodes[j])
    levels = np.array([(1 + 2 * t) * (1 - t) ** 2, t**2 * (3 - 2 * t)])
    tilts = h * np.array([t * (1 - t) ** 2, t**2 * (t - 1)])
    found: Float64 = levels @ values[j : j + 2] + tilts @ slopes[j : j + 2]
    return found


def judge(kind: Rule, nodes: Sequence[Float64], samples: Sequence[Samples], factor: float) -> list[Verdict]:
    """Integrate documents by the rule on nodes of their own, and estimate the errors; alike documents in one go."""
    verdicts: list[Verdict | None] = [None] * len(samples)
    alike: dict[tuple[int, int], list[int]] = {}
    for i, (x, s) in enumerate(zip(nodes, samples, strict=True)):
        alike.setdefault((len(x), s.values.shape[1]), []).append(i)
    for members in alike.values():
        x = np.stack([nodes[i] for i in members])
        found = [(samples[i].rows(nodes[i]), samples[i].rows(breaks(nodes[i]))) for i in members]
        values = np.stack([samples[i].values[r] for i, (r, _) in zip(members, found, strict=True)])
        outputs = np.stack([samples[i].outputs[r] for i, (_, r) in zip(members, found, strict=True)])
        areas = kind.panels(x) @ values  # (documents, p, T)
        integrals = areas.sum(axis=1)
        changes = np.diff(outputs)
        sizes = np.linalg.norm(areas, axis=2)
        scales = np.maximum(np.abs(changes), sizes)
        parts = np.abs(changes - areas.sum(axis=2)) * _ratio(sizes, scales)
        parts = factor * _ratio(parts, np.linalg.norm(integrals, axis=1)[:, None])
        for i, integral, part in zip(members, integrals, parts, strict=True):
            verdicts[i] = Verdict(integral, float(part.sum()), part)
    return [verdict for verdict in verdicts if verdict is not None]


def _ratio(part: Float64, whole: Float64) -> Float64:
    """part / whole; 0 where both vanish, and infinite where the whole alone does."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(part == 0, 0.0, part / whole)


@dataclass(frozen=True, slots=True, eq=False)
class Climbed:
    """Where one document's climb ended."""

    verdict: Verdict
    converged: bool
    nodes: Float64


Evaluate = Callable[[list[tuple[int, float]]], tuple[list[Float64], Float64]]
"""Rows (document, node) to their g (T,) each and their f (rows,)."""


def climb(
    kind: Rule,
    start: int,
    factor: float,
    samples: Sequence[Samples],
    evaluate: Evaluate,
    tolerance: float,
    fixed: bool = False,
) -> list[Climbed]:
    """Let documents climb until estimate and completeness residual are within the tolerance, or the rule's cap.

    Parameters
    ----------
    kind
        The rule.
    start
        Where they begin: panels of a mesh, or a rung.
    factor
        c, from raw estimate to estimate.
    samples
        Per document, what is known of its path; takes in what is evaluated.
    evaluate
        Gives g and f at nodes; rows of all documents come together.
    tolerance
        Relative.
    fixed
        Stay at the first attempt, whatever its error.
    """
    done: list[Climbed | None] = [None] * len(samples)
    nodes = [kind.first(start)] * len(samples)
    climbing = list(range(len(samples)))
    while climbing:
        rows = [(i, a) for i in climbing for a in samples[i].missing(nodes[i])]
        values, outputs = evaluate(rows) if rows else ([], np.empty(0))
        at = 0
        for i in climbing:
            new = samples[i].missing(nodes[i])
            if new:
                samples[i].add(new, np.stack(values[at : at + len(new)]), outputs[at : at + len(new)])
                at += len(new)
        verdicts = judge(kind, [nodes[i] for i in climbing], [samples[i] for i in climbing], factor)
        above = []
        for i, verdict in zip(climbing, verdicts, strict=True):
            good = within(verdict, samples[i], tolerance)
            done[i] = Climbed(verdict, good, nodes[i])
            following = None if good or fixed else kind.next(nodes[i], verdict, tolerance)
            if following is not None:
                nodes[i] = following
                above.append(i)
        climbing = above
    return [each for each in done if each is not None]


def within(verdict: Verdict, samples: Samples, tolerance: float) -> bool:
    """Whether estimate and completeness residual, over max(|Δf|, 0.05·‖Σa‖₁, 1e-3), are within the tolerance."""
    change = samples.outputs[1] - samples.outputs[0]
    residual = abs(verdict.integral.sum() - change)
    scale = max(abs(change), 0.05 * np.abs(verdict.integral).sum(), 1e-3)
    return bool(verdict.estimate <= tolerance and residual <= tolerance * scale)
