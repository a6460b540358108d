"""The step schedule: what a pilot taught about a (model, method), reused by every later run, night and worker.

Per depth it holds how far the raw error estimate is to be trusted (`calibration`) and, per length bucket, the rung to
start from. It belongs to the weights, the tokenizer, the method and the engine, not to a corpus, and is part of the
attribution key, so a document's rungs depend on that document and the schedule alone.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

BUCKETS = (32, 64, 128, 256, 512)
"""Upper ends of the length buckets, in tokens; the last bucket is open."""

DEFAULT_CALIBRATION = 2.0
PILOT_DOCUMENTS = 64


def bucket(tokens: int) -> int:
    """Index of the length bucket of a document of so many tokens."""
    return bisect.bisect_left(BUCKETS, tokens)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Calibration per depth and starting rung per (bucket, depth).

    Attributes
    ----------
    calibration
        (L+1) factor on the Richardson estimate of each depth.
    start
        (buckets, L+1) first rung whose estimate is looked at; rung 1 at least, as an estimate takes two rungs.
    seconds_per_document
        Measured in the pilot; sizes shards, and is no part of the key.
    """

    calibration: tuple[float, ...]
    start: tuple[tuple[int, ...], ...]
    seconds_per_document: float | None = None

    @classmethod
    def default(cls, depth: int) -> Schedule:
        """What is used without a pilot: every document climbs from the bottom, with a cautious calibration."""
        return cls((DEFAULT_CALIBRATION,) * (depth + 1), ((1,) * (depth + 1),) * (len(BUCKETS) + 1))

    @property
    def key(self) -> str:
        """SHA-256 (16 hex) of what changes numbers."""
        content = json.dumps([self.calibration, self.start])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """JSON text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Schedule:
        """Read `to_json`'s text; ValueError, KeyError or TypeError if it is not that."""
        raw = json.loads(text)
        return cls(
            tuple(float(c) for c in raw["calibration"]),
            tuple(tuple(int(r) for r in row) for row in raw["start"]),
            raw["seconds_per_document"],
        )


@dataclass(frozen=True, slots=True)
class Climb:
    """How one document climbed at one depth: relative differences of successive rungs, and the rung accepted.

    `differences[k]` is ‖A_{k+1} − A_k‖₂ / ‖A_{k+1}‖₂.
    """

    depth: int
    tokens: int
    differences: tuple[float, ...]
    accepted: int


def learn(climbs: Sequence[Climb], depth: int, gain: float, seconds_per_document: float) -> Schedule:
    """Schedule of a pilot's climbs.

    A rung's true error is very nearly its difference to the next rung up; its estimate was its difference to the rung
    below over (gain − 1). The calibration of a depth is the 99th percentile of truth over estimate where the estimate
    was small enough to matter, never under 1, and never under the default while fewer than 32 pairs were seen. The
    starting rung is the lowest that any pilot document of the bucket was accepted at: nested rungs make a start too
    low nearly free, and a start too high is waste.
    """
    calibration = []
    for l in range(depth + 1):  # noqa: E741
        ratios = [
            truth / (below / (gain - 1))
            for climb in climbs
            if climb.depth == l
            for below, truth in zip(climb.differences, climb.differences[1:], strict=False)
            if below > 0 and truth > 1e-6 and below / (gain - 1) < 0.1
        ]
        learnt = float(np.quantile(ratios, 0.99)) if ratios else DEFAULT_CALIBRATION
        floor = 1.0 if len(ratios) >= 32 else DEFAULT_CALIBRATION
        calibration.append(round(max(learnt, floor), 3))
    start = [
        [
            min((c.accepted for c in climbs if c.depth == l and bucket(c.tokens) == b), default=1)
            for l in range(depth + 1)  # noqa: E741
        ]
        for b in range(len(BUCKETS) + 1)
    ]
    return Schedule(tuple(calibration), tuple(tuple(row) for row in start), seconds_per_document)
