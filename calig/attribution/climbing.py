"""How documents climb to the tolerance, by errors that are measured rather than guessed.

Let g(α) (T,) be the contributions of T tokens at α, and f(α) the explained output: Σ_t g_t(α) = f′(α). A rule
integrates g panel by panel, a_j = Σ_k P[j, k]·g(α_k) from break b_j to b_{j+1}. Each forward pass also gives f at its
node, so a panel's exact total is known, and its defect

    R_j = f(b_{j+1}) − f(b_j) − Σ_t a_j,t

is a true error, in one direction of the T. Neighbouring panels of a spline err to opposite sides, and most of that
cancels in the integral as it does between their defects, so these are smoothed, R̃_j = R_{j−1}/4 + R_j/2 + R_{j+1}/4,
and a quarter of what was there is kept. A panel's whole error is taken to be as large relative to a_j as its defect is
to the change of f, but no more than the defect, and the rule's is their sum:

    estimate = c · Σ_j (|R̃_j| + |R_j|/4) · ‖a_j‖₂ / max(|Δf_j|, ‖a_j‖₂) / ‖Σ_j a_j‖₂,

with c = 1.5, or what a pilot calibrates. A narrow bump between nodes, which no difference of two rules need show, shows
in R_j. It also says where to look closer: a mesh halves the panels that hold most of the estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calig.attribution.quadrature import Float64, Rule, Verdict, breaks

_PATIENCE = 3
"""Attempts in a row that may fail to lower the estimate by a tenth; after them, what is left is rounding."""


class Samples:
    """One document's path at one depth: g (T,), f, and context (T,) or (0,), at the ends and every node evaluated."""

    def __init__(
        self, start: tuple[Float64, float], end: tuple[Float64, float], context: Float64 | None = None
    ) -> None:
        self._rows: dict[float, int] = {0.0: 0, 1.0: 1}
        self.values = np.stack([start[0], end[0]])
        self.outputs = np.array([start[1], end[1]])
        self.context = np.empty((2, 0)) if context is None else context

    @property
    def evaluated(self) -> int:
        """Nodes evaluated beyond the two ends."""
        return len(self._rows) - 2

    def missing(self, nodes: Float64) -> list[float]:
        """Those of `nodes` not evaluated yet."""
        return [float(a) for a in nodes if float(a) not in self._rows]

    def add(self, nodes: Sequence[float], values: Float64, outputs: Float64, context: Float64) -> None:
        """Take in g (n, T), f (n,) and context (n, T) or (n, 0) at new nodes."""
        for node in nodes:
            self._rows[node] = len(self._rows)
        self.values = np.concatenate([self.values, values])
        self.outputs = np.concatenate([self.outputs, outputs])
        self.context = np.concatenate([self.context, context])

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


def judge(kind: Rule, nodes: Sequence[Float64], samples: Sequence[Samples], factor: float) -> list[Verdict]:
    """Integrate documents by the rule on nodes of their own, and estimate the errors."""
    verdicts: list[Verdict | None] = [None] * len(samples)
    alike: dict[int, list[int]] = {}
    for i, x in enumerate(nodes):
        alike.setdefault(len(x), []).append(i)
    for members in alike.values():
        meshes, mesh = np.unique(np.stack([nodes[i] for i in members]), axis=0, return_inverse=True)
        panels = kind.panels(meshes)
        weights = panels.sum(axis=1)
        found = [_measure(panels[m], nodes[i], samples[i]) for m, i in zip(mesh, members, strict=True)]
        integrals = [integral for integral, *_ in found]
        sums, sizes, changes = (np.stack(column) for column in zip(*(own for _, *own in found), strict=True))
        scales = np.maximum(np.abs(changes), sizes)
        defects = changes - sums
        beside = np.pad(defects, ((0, 0), (1, 1)))
        smooth = defects / 2 + (beside[:, :-2] + beside[:, 2:]) / 4
        parts = (np.abs(smooth) + np.abs(defects) / 4) * _ratio(sizes, scales)
        norms = np.array([np.linalg.norm(integral) for integral in integrals])
        parts = factor * _ratio(parts, norms[:, None])
        for i, m, integral, part in zip(members, mesh, integrals, parts, strict=True):
            verdicts[i] = Verdict(integral, part, weights[m])
    return [verdict for verdict in verdicts if verdict is not None]


def _measure(panels: Float64, nodes: Float64, samples: Samples) -> tuple[Float64, Float64, Float64, Float64]:
    """One document's integral (T,); and per panel the sum and the norm of its area (T,), and the change of f."""
    values, _ = samples.at(nodes)
    _, outputs = samples.at(breaks(nodes))
    areas = panels @ values
    return areas.sum(axis=0), areas.sum(axis=1), np.linalg.norm(areas, axis=1), np.diff(outputs)


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


Evaluate = Callable[[list[tuple[int, float]]], tuple[list[Float64], Float64, list[Float64]]]
"""Rows (document, node) to their g (T,) each, their f (rows,), and their context (T,) or (0,) each."""


def climb(
    kind: Rule,
    start: int,
    factor: float,
    samples: Sequence[Samples],
    evaluate: Evaluate,
    tolerance: float,
    fixed: bool = False,
) -> list[Climbed]:
    """Let documents climb until estimate and completeness residual are within the tolerance, or no more can be gained.

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
    least, vain = np.full(len(samples), np.inf), np.zeros(len(samples), dtype=int)
    while climbing:
        asked = {i: new for i in climbing if (new := samples[i].missing(nodes[i]))}
        rows = [(i, node) for i, new in asked.items() for node in new]
        values, outputs, context = evaluate(rows) if rows else ([], np.empty(0), [])
        at = 0
        for i, new in asked.items():
            mine = slice(at, at + len(new))
            samples[i].add(new, np.stack(values[mine]), outputs[mine], np.stack(context[mine]))
            at += len(new)
        verdicts = judge(kind, [nodes[i] for i in climbing], [samples[i] for i in climbing], factor)
        above = []
        for i, verdict in zip(climbing, verdicts, strict=True):
            good = within(verdict, samples[i], tolerance)
            done[i] = Climbed(verdict, good, nodes[i])
            better = verdict.estimate < 0.9 * least[i]
            least[i], vain[i] = (verdict.estimate, 0) if better else (least[i], vain[i] + 1)
            done_with = good or fixed or vain[i] >= _PATIENCE
            following = None if done_with else kind.next(nodes[i], verdict, tolerance)
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
