"""The step schedule: what a pilot taught about a (model, method), reused by every later run, night and worker.

Per depth it holds where documents begin to climb, and the factor from raw to stated error. Both are learnt on a pilot,
whose documents are integrated ten times as exactly and then made to climb again, on those samples, from every start
and with ever larger factors. The schedule belongs to the weights, the tokenizer, the method and the engine, not to a
corpus, and is part of the attribution key, so that a document's nodes depend on that document and the schedule alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from calig.attribution.climbing import Climbed, Samples, climb, judge
from calig.attribution.quadrature import Float64, Mesh, Rule, spline_slopes
from calig.formats import readable, stamp

PILOT_DOCUMENTS = 64
PILOT_EXACTNESS = 10
"""How much smaller than the method's the pilot's tolerance is."""

_MESH = 12
_PILOT_MESH = 24
_FACTORS = (1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0)
_ROOM = 1.25

_AS_CHEAP = 1.03
"""Of starts that cost this much or less of the cheapest, the finest takes the fewest rounds."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Where documents begin, and what their raw error estimate is multiplied by, per depth 0..L.

    Attributes
    ----------
    starts
        (L+1) equal panels of the first mesh (rule `auto`), or the first rung.
    factors
        (L+1) from raw estimate to error estimate.
    seconds_per_document
        Measured in the pilot; sizes shards, and is no part of the key.
    """

    starts: tuple[int, ...]
    factors: tuple[float, ...]
    seconds_per_document: float | None = None

    @classmethod
    def default(cls, kind: Rule, depth: int) -> Schedule:
        """What is used without a pilot: a mesh of 12 panels or the first rung, and estimates with half as much room."""
        start = _MESH if isinstance(kind, Mesh) else 0
        return cls((start,) * (depth + 1), (_FACTORS[0],) * (depth + 1))

    @classmethod
    def for_pilot(cls, depth: int) -> Schedule:
        """A mesh fine enough to miss nothing, for rule `auto`."""
        return cls((_PILOT_MESH,) * (depth + 1), (_FACTORS[0],) * (depth + 1))

    @property
    def key(self) -> str:
        """SHA-256 (16 hex) of what changes numbers."""
        content = json.dumps([self.starts, self.factors])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """JSON text."""
        return json.dumps({**asdict(self), **stamp()}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Schedule:
        """Read `to_json`'s text; ValueError, KeyError or TypeError if it is not that, NewerError if it is newer."""
        raw = readable("a step schedule", json.loads(text))
        return cls(
            tuple(int(start) for start in raw["starts"]),
            tuple(float(factor) for factor in raw["factors"]),
            raw["seconds_per_document"],
        )


def learn(
    kind: Rule, pilot: Sequence[Sequence[Samples]], tolerance: float, seconds_per_document: float
) -> Schedule:
    """The schedule that a pilot teaches.

    Per depth, the factor is the smallest for which no pilot document is accepted with an error that, with a quarter as
    much for room, is above the tolerance; the start is the one that costs least.

    Parameters
    ----------
    kind
        The method's rule.
    pilot
        Per depth 0..L, the samples of the pilot's documents, of a mesh fine enough to be a reference.
    tolerance
        The method's.
    seconds_per_document
        What the pilot's documents took; the schedule's are in proportion to the block passes it asks for.
    """
    learnt = [_learn(kind, [_Replay(samples) for samples in depth], tolerance) for depth in pilot]
    spent = _passes([float(np.mean([s.evaluated for s in depth])) for depth in pilot])
    needed = _passes([nodes for _, _, nodes in learnt])
    return Schedule(
        tuple(start for start, _, _ in learnt),
        tuple(factor for _, factor, _ in learnt),
        seconds_per_document * needed / spent,
    )


def _passes(nodes: Sequence[float]) -> float:
    """Block passes of so many nodes per depth 0..L, and of both ends."""
    blocks = len(nodes) - 1
    return 2 * blocks + sum(n * (blocks - depth) for depth, n in enumerate(nodes))


class _Replay:
    """A pilot document's path at one depth: a spline through its samples, and its integral."""

    def __init__(self, samples: Samples) -> None:
        self.nodes = samples.nodes
        self.values, self.outputs = samples.at(self.nodes)
        (verdict,) = judge(Mesh(len(self.nodes)), [self.nodes], [samples], 1.0)
        self.integral = verdict.integral
        self._slopes = spline_slopes(self.nodes) @ self.values

    def samples(self) -> Samples:
        """What is known before the climb: the ends."""
        return Samples((self.values[0], float(self.outputs[0])), (self.values[-1], float(self.outputs[-1])))

    def at(self, node: float) -> tuple[Float64, float]:
        """g (T,) and f at any node: f by its own values and its slopes, Σ_t g_t."""
        values = _hermite(node, self.nodes, self.values, self._slopes)
        return values, float(_hermite(node, self.nodes, self.outputs, self.values.sum(axis=1)))

    def error(self, climbed: Climbed) -> float:
        """The true relative error, as far as the pilot knows it."""
        return float(
            np.linalg.norm(climbed.verdict.integral - self.integral)
            / max(float(np.linalg.norm(self.integral)), 1e-30)
        )


def _learn(kind: Rule, replays: list[_Replay], tolerance: float) -> tuple[int, float, float]:
    """Start, factor, and the nodes that a document then takes on average."""
    usual, starts = (_MESH, (6, 8, 10, 12, 16)) if isinstance(kind, Mesh) else (0, (0, 1, 2))
    factor, _ = _honest(kind, usual, replays, tolerance, _FACTORS)
    costs = {start: _climb(kind, start, factor, replays, tolerance)[1] for start in starts}
    start = max(s for s, cost in costs.items() if cost <= _AS_CHEAP * min(costs.values()))
    return start, *_honest(kind, start, replays, tolerance, [f for f in _FACTORS if f >= factor])


def _honest(
    kind: Rule, start: int, replays: list[_Replay], tolerance: float, factors: Sequence[float]
) -> tuple[float, float]:
    """The smallest factor under which no pilot document is accepted that should not be, or the largest; and nodes."""
    for factor in factors:
        climbed, nodes = _climb(kind, start, factor, replays, tolerance)
        if not any(
            c.converged and _ROOM * replay.error(c) > tolerance
            for replay, c in zip(replays, climbed, strict=True)
        ):
            break
    return factor, nodes


def _climb(
    kind: Rule, start: int, factor: float, replays: list[_Replay], tolerance: float
) -> tuple[list[Climbed], float]:
    """Let the pilot's documents climb again on their splines; also the nodes they took, on average."""

    def evaluate(rows: list[tuple[int, float]]) -> tuple[list[Float64], Float64, list[Float64]]:
        found = [replays[i].at(node) for i, node in rows]
        return (
            [values for values, _ in found],
            np.array([output for _, output in found]),
            [np.empty(0)] * len(rows),
        )

    samples = [replay.samples() for replay in replays]
    climbed = climb(kind, start, factor, samples, evaluate, tolerance)
    return climbed, float(np.mean([s.evaluated for s in samples]))


def _hermite(node: float, nodes: Float64, values: Float64, slopes: Float64) -> Float64:
    """The piecewise cubic with these values and slopes (n, …) at `nodes` (n,), at any node."""
    j = int(np.clip(np.searchsorted(nodes, node, side="right") - 1, 0, len(nodes) - 2))
    h, t = nodes[j + 1] - nodes[j], (node - nodes[j]) / (nodes[j + 1] - nodes[j])
    levels = np.array([(1 + 2 * t) * (1 - t) ** 2, t**2 * (3 - 2 * t)])
    tilts = h * np.array([t * (1 - t) ** 2, t**2 * (t - 1)])
    found: Float64 = levels @ values[j : j + 2] + tilts @ slopes[j : j + 2]
    return found
