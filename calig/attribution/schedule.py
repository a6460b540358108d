"""The step schedule: what a pilot taught about a (model, method), reused by every later run, night and worker.

A rung's error is estimated from its difference to the rung below, ‖A_k − A_{k−1}‖₂ / ‖A_k‖₂, times a factor. The
schedule holds that factor per depth and rung, measured on a pilot. It belongs to the weights, the tokenizer, the
method and the engine, not to a corpus, and is part of the attribution key, so that a document's rungs depend on that
document and the schedule alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from calig.attribution.quadrature import ladder

PILOT_DOCUMENTS = 64
_ENOUGH = 24
_ROOM = 1.5
_LEAST = 0.01


@dataclass(frozen=True, slots=True)
class Schedule:
    """Per depth 0..L: the quadrature rule and, per rung, the factor from difference to error estimate.

    Attributes
    ----------
    rules
        (L+1) rule of each depth.
    factors
        (L+1, rungs) factor of each rung; that of rung 0, which has none below, is not used.
    first
        (L+1) first rung at which a document may be accepted, 1 at least.
    seconds_per_document
        Measured in the pilot; sizes shards, and is no part of the key.
    """

    rules: tuple[str, ...]
    factors: tuple[tuple[float, ...], ...]
    first: tuple[int, ...]
    seconds_per_document: float | None = None

    @classmethod
    def default(cls, rule: str, depth: int, max_nodes: int) -> Schedule:
        """What is used without a pilot. `auto` is midpoint at depth 0 and Patterson's rules above it.

        At depth 0 the integrand has a narrow bump inside the path, which uniform nodes resolve with fewer; deeper
        down it is smooth, and Gauss-like rules win.
        """
        deeper = "gauss-patterson" if rule == "auto" else rule
        rules = ("midpoint" if rule == "auto" else rule, *(deeper,) * depth)
        return cls(rules, tuple(ladder(r, max_nodes).caution for r in rules), (1,) * (depth + 1))

    @property
    def key(self) -> str:
        """SHA-256 (16 hex) of what changes numbers."""
        content = json.dumps([self.rules, self.factors, self.first])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """JSON text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Schedule:
        """Read `to_json`'s text; ValueError, KeyError or TypeError if it is not that."""
        raw = json.loads(text)
        return cls(
            tuple(str(rule) for rule in raw["rules"]),
            tuple(tuple(float(factor) for factor in row) for row in raw["factors"]),
            tuple(int(rung) for rung in raw["first"]),
            raw["seconds_per_document"],
        )

    def frozen(self, rung: int) -> Schedule:
        """Every document at this rung at once; with a tolerance never missed, for invariance checks."""
        return replace(self, first=(rung,) * len(self.first))


@dataclass(frozen=True, slots=True)
class Climb:
    """How one document climbed at one depth: `differences[k]` = ‖A_{k+1} − A_k‖₂ / ‖A_{k+1}‖₂."""

    depth: int
    differences: tuple[float, ...]


def learn(
    prior: Schedule, climbs: Sequence[Climb], tolerance: float, seconds_per_document: float
) -> Schedule:
    """The schedule that a pilot's climbs teach, starting from the one they were made with.

    The true error of a rung is very nearly its difference to the rung above; its estimate is a factor times its
    difference to the rung below. The factor learnt is the smallest for which no pilot document that it would accept
    has a true error above its estimate, and half as much again for room. A rung that fewer than 24 documents climbed
    past keeps its prior factor.
    """
    factors = []
    for depth, row in enumerate(prior.factors):
        learnt = list(row)
        for rung in range(1, len(row) - 1):
            pairs = [
                (c.differences[rung - 1], c.differences[rung])
                for c in climbs
                if c.depth == depth and len(c.differences) > rung
            ]
            if len(pairs) >= _ENOUGH:
                learnt[rung] = round(max(_ROOM * _honest_factor(pairs, tolerance), _LEAST), 4)
        factors.append(tuple(learnt))
    return replace(prior, factors=tuple(factors), seconds_per_document=seconds_per_document)


def _honest_factor(pairs: Sequence[tuple[float, float]], tolerance: float) -> float:
    """Smallest factor c such that truth ≤ c·below for every (below, truth) with c·below ≤ tolerance.

    A pair does not bind once it is rejected, so each asks for c ≥ truth / below or c > tolerance / below, the lesser;
    nor where the truth is below a hundredth of the tolerance, where it is mostly rounding.
    """
    asked = (min(truth, tolerance) / below for below, truth in pairs if below > 0 and truth > tolerance / 100)
    return max(asked, default=0.0)
