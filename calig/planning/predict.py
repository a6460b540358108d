"""From a pilot to a corpus: regressions on tokens and nodes, sums over documents, and how wide they may be off.

A document of T tokens takes p block passes, which depend on the nodes that its paths need, and a pass takes
a₀ + a₁·T + a₂·T² seconds. Both are fitted to the pilot's documents (p on 1 and T; seconds on p, p·T and p·T², all
coefficients at least 0), relative errors weighing alike, and scaled so that the pilot's own sums come out: those of its
last two pieces, of seconds, since the fewer documents there are at a time, the less they fill the batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are first used

from calig.bootstrap import LEAST

Floats = npt.NDArray[np.float64]

DRAWS = 400
"""Bootstrap draws of the pilot's documents."""


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """What the pilot's n documents took.

    Attributes
    ----------
    tokens, passes, seconds
        (n,) tokens, block passes, and seconds of attribution of each document.
    pieces
        (n,) the piece of the pilot that each was in.
    """

    tokens: Floats
    passes: Floats
    seconds: Floats
    pieces: npt.NDArray[np.int64]

    @property
    def late(self) -> npt.NDArray[np.bool_]:
        """(n,) whether a document was in one of the last two pieces, which hold half of all or more."""
        late: npt.NDArray[np.bool_] = self.pieces >= self.pieces.max() - 1
        return late

    def chosen(self, rows: npt.NDArray[np.int64]) -> Costs:
        """Return the documents of these rows."""
        return Costs(self.tokens[rows], self.passes[rows], self.seconds[rows], self.pieces[rows])


@dataclass(frozen=True, slots=True)
class Range:
    """A number with a 95 % interval; its ends are NaN where too few documents were measured for one."""

    value: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> Range:
        """A number that is counted."""
        return cls(value, value, value)

    def times(self, factor: float) -> Range:
        """Return it times a factor that is known."""
        return Range(self.value * factor, self.low * factor, self.high * factor)

    def plus(self, amount: float) -> Range:
        """Return it and an amount that is known, together."""
        return Range(self.value + amount, self.low + amount, self.high + amount)

    def widened(self, share: float) -> Range:
        """Return it with an interval that also allows for a relative error of this size, independent of its own."""
        below = np.hypot(self.value - self.low, share * self.value)
        above = np.hypot(self.high - self.value, share * self.value)
        return Range(self.value, float(np.maximum(0.0, self.value - below)), float(self.value + above))


@dataclass(frozen=True, slots=True)
class Means:
    """Per document of the corpus: tokens, block passes, seconds of attribution."""

    tokens: Range
    passes: Range
    seconds: Range


def means(costs: Costs, lengths: npt.NDArray[np.int64], whole: bool, seed: int = 0) -> Means:
    """Return what a document of the corpus takes on average.

    Parameters
    ----------
    costs
        The pilot's.
    lengths
        Tokens of the corpus's documents, or of a random sample of them; 0 of one that cannot be explained.
    whole
        Whether these are all documents: then the lengths themselves are certain.
    seed
        Of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    values = _average(costs, lengths)
    if len(costs.tokens) < LEAST:
        tokens, passes, seconds = (Range(value, np.nan, np.nan) for value in values)
        counted = Range.exact(values[0]) if whole else tokens
        return Means(counted, passes, seconds)
    draws = np.array(
        [
            _average(
                costs.chosen(rng.integers(0, len(costs.tokens), len(costs.tokens))),
                lengths if whole else rng.choice(lengths, len(lengths)),
            )
            for _ in range(DRAWS)
        ]
    )
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    tokens, passes, seconds = (
        Range(float(v), float(min(v, lo)), float(max(v, hi)))
        for v, lo, hi in zip(values, low, high, strict=True)
    )
    return Means(tokens, passes, seconds.widened(spread(costs)))


def spread(costs: Costs) -> float:
    """Return how far seconds and the fit differ from piece to piece of the pilot: twice the standard deviation.

    It is what the machine does to times; 0 where there is one piece.
    """
    pieces = np.unique(costs.pieces)
    if len(pieces) < 2:
        return 0.0
    fitted = _seconds(costs, costs.passes, costs.tokens)
    ratios = [costs.seconds[costs.pieces == p].sum() / fitted[costs.pieces == p].sum() for p in pieces]
    return float(2 * np.std(ratios, ddof=1))


def _average(costs: Costs, lengths: npt.NDArray[np.int64]) -> tuple[float, float, float]:
    found = lengths[lengths > 0].astype(np.float64)
    if not len(found):
        return 0.0, 0.0, 0.0
    passes = _passes(costs, found)
    seconds = _seconds(costs, passes, found)
    share = len(found) / len(lengths)
    return share * found.mean(), share * passes.mean(), share * seconds.mean()


def _passes(costs: Costs, lengths: Floats) -> Floats:
    """Block passes that documents of these lengths take, by the fit to the pilot's."""
    return _fitted(
        np.stack([np.ones_like(costs.tokens), costs.tokens], axis=1),
        costs.passes,
        np.stack([np.ones_like(lengths), lengths], axis=1),
    )


def _seconds(costs: Costs, passes: Floats, lengths: Floats) -> Floats:
    """Seconds that documents of so many passes and these lengths take, by the fit to the pilot's."""
    powers = np.arange(3)
    return _fitted(
        costs.passes[:, None] * costs.tokens[:, None] ** powers,
        costs.seconds,
        passes[:, None] * lengths[:, None] ** powers,
        costs.late,
    )


def _fitted(
    design: Floats, observed: Floats, wanted: Floats, scaled_on: npt.NDArray[np.bool_] | slice = slice(None)
) -> Floats:
    """Fit coefficients ≥ 0 to observed values by relative least squares, scaled to the sum of some; apply them."""
    size = np.maximum(design, 1e-12).max(axis=0)
    weights = 1 / np.maximum(observed, 1e-12)
    coefficients, _ = scipy.optimize.nnls(design / size * weights[:, None], observed * weights)
    total = (design / size @ coefficients)[scaled_on].sum()
    scale = observed[scaled_on].sum() / total if total > 0 else 1.0
    fitted: Floats = scale * (wanted / size @ coefficients)
    return fitted


def makespan(documents: int, size: int, workers: int, seconds: float) -> float:
    """Return the seconds that shards of `size` documents take on so many workers, each pulling the next one.

    Documents take `seconds` each; the last shard holds what is left.
    """
    full, rest = divmod(documents, size)
    rounds, beyond = divmod(full, workers)
    last = size if beyond else rest
    return seconds * (rounds * size + last)


def line(small: tuple[float, float], large: tuple[float, float]) -> tuple[float, float]:
    """Return intercept and slope, both at least 0, of the line through two points (x, y)."""
    slope = max(0.0, (large[1] - small[1]) / (large[0] - small[0])) if large[0] > small[0] else 0.0
    if slope == 0.0 and large[0] > 0:
        slope = large[1] / large[0]
    return max(0.0, large[1] - slope * large[0]), slope
