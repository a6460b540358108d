"""How large a run's largest PSI is by chance: the maximum of all measures, documents being exchanged between two runs.

Under no change it is chance which run a document fell to, or, of pairs, which run gave which of a document's two
values. So the largest index of all measures is compared with those after exchanges at random, all measures at once:
however many there are and however they hang together, chance alone is beyond `by_chance` as often as the level says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calig.bootstrap import Doubles
from calig.comparison.drift import Binned, Codes, indices
from calig.comparison.exact import log_choose

BEYOND = 20
"""Exchanges that are expected beyond `by_chance`: their number is known to about a fifth."""

LARGE = 10_000
"""Documents from which on the counts of exchanges are drawn from the normal distribution with their covariance."""

_HELD = 8_000_000  # numbers held at once
_BLOCK = 50_000  # documents laid out by bins at once


@dataclass(frozen=True, slots=True)
class Chance:
    """What chance alone does to the largest of the indices.

    Attributes
    ----------
    largest
        The largest index of all measures; NaN where there is none.
    p
        Share of the exchanges, this one with them, whose largest index is as large; NaN where there is none.
    by_chance
        What chance alone exceeds with a chance of the level; inf where so few documents can never be beyond it.
    draws
        Exchanges drawn.
    """

    largest: float
    p: float
    by_chance: float
    draws: int


def largest_by_chance(
    binned: Binned, paired: bool, level: float, groups: tuple[Codes, Codes] | None = None
) -> Chance:
    """Compare the largest index of all measures with what exchanges at random give.

    Parameters
    ----------
    binned
        Documents' values; paired, of the same documents in one order.
    paired
        Whether documents are paired.
    level
        Chance that is still allowed.
    groups
        (n,) and (m,) numbers of groups, documents being exchanged within a group only; None: all are one group.

    Returns
    -------
    The same for the same input: the exchanges are seeded.
    """
    starts, (a, b) = binned.starts, binned.counts()
    if not len(starts) or not len(binned.a) or not len(binned.b):
        return Chance(math.nan, math.nan, math.inf, 0)
    largest = _largest(a[None], b[None], starts, paired)[0]
    if math.isnan(largest):
        return Chance(math.nan, math.nan, math.inf, 0)
    if groups is None or paired:
        groups = np.zeros(len(binned.a), np.int64), np.zeros(len(binned.b), np.int64)
    draws = math.ceil(BEYOND / level)
    total = a + b
    exchanges = _exchanged(binned, groups, paired, draws)
    found = np.concatenate([_largest(counts, total - counts, starts, paired) for counts in exchanges])
    as_large = int((found >= largest * (1 - 1e-12)).sum())
    # so many of the draws, at most, are as large where p is within the level
    beyond = math.floor(level * (draws + 1))
    by_chance = float(np.partition(found, draws - beyond)[draws - beyond])
    if _log_arrangements(binned, groups, paired) < -math.log(level):
        by_chance = math.inf
    return Chance(float(largest), (1 + as_large) / (draws + 1), by_chance, draws)


def _largest(a: Doubles, b: Doubles, starts: Codes, paired: bool) -> Doubles:
    found = indices(a, b, starts, paired)
    highest: Doubles = np.where(np.isnan(found), -np.inf, found).max(axis=1)
    return np.where(np.isinf(highest), np.nan, highest)


def _exchanged(binned: Binned, groups: tuple[Codes, Codes], paired: bool, draws: int) -> Iterator[Doubles]:
    """Counts (r, bins) of the first run after exchanges at random, `draws` of them in pieces."""
    rng = np.random.default_rng(0)
    documents = len(binned.a) + (0 if paired else len(binned.b))
    if documents > LARGE:
        yield _normal(rng, binned, groups, paired, draws)
        return
    held_a, held_b = binned.held(binned.a), binned.held(binned.b)
    bins = held_a.shape[1]
    piece = max(1, _HELD // max(documents, bins))
    base = held_a.sum(axis=0, dtype=np.float64)
    for first in range(0, draws, piece):
        count = min(piece, draws - first)
        if paired:
            swapped = rng.integers(0, 2, (count, documents), dtype=np.int8).astype(np.float32)
            yield base + (swapped @ (held_b - held_a)).astype(np.float64)
        else:
            chosen = _chosen(rng, groups, count)
            yield (chosen @ np.concatenate([held_a, held_b])).astype(np.float64)


def _chosen(rng: np.random.Generator, groups: tuple[Codes, Codes], count: int) -> npt.NDArray[np.float32]:
    """(count, n + m) 1 for the documents that fall to the first run: of each group as many as are its own."""
    group = np.concatenate(groups)
    chosen = np.zeros((count, len(group)), dtype=np.float32)
    for name in np.unique(group):
        places = np.flatnonzero(group == name)
        own = int((groups[0] == name).sum())
        if 0 < own < len(places):
            keys = rng.random((count, len(places)), dtype=np.float32)
            drawn = np.argpartition(keys, own - 1, axis=1)[:, :own]
            np.put_along_axis(chosen, places[drawn], 1, axis=1)
        elif own:
            chosen[:, places] = 1
    return chosen


def _normal(
    rng: np.random.Generator, binned: Binned, groups: tuple[Codes, Codes], paired: bool, draws: int
) -> Doubles:
    """Counts of the first run, normal with the mean and covariance that they have under exchanges.

    Documents are laid out some at a time, so that memory does not grow with their bins.
    """
    first, second = binned.counts()
    total = first + second
    if paired:
        places = range(0, len(binned.a), _BLOCK)
        sides = ((binned.a[i : i + _BLOCK], binned.b[i : i + _BLOCK]) for i in places)
        change, products = _sums((binned.held(b) - binned.held(a) for a, b in sides), len(total))
        mean, covariance = first + change / 2, products / 4
    else:
        mean, covariance = np.zeros(len(total)), np.zeros((len(total), len(total)))
        for name in np.unique(np.concatenate(groups)):
            own = np.concatenate([binned.a[groups[0] == name], binned.b[groups[1] == name]])
            count, size = len(own), int((groups[0] == name).sum())
            blocks = (binned.held(own[i : i + _BLOCK]) for i in range(0, count, _BLOCK))
            sums, products = _sums(blocks, len(total))
            mean += sums * size / count
            if count > 1:
                around = products - np.outer(sums, sums) / count
                covariance += around * size * (count - size) / (count * (count - 1))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    found: Doubles = np.clip(mean + rng.normal(size=(draws, len(values))) @ root.T, 0, total)
    return found


def _sums(blocks: Iterable[npt.NDArray[np.float32]], bins: int) -> tuple[Doubles, Doubles]:
    """(bins,) sums over the rows of all blocks, and (bins, bins) sums of their products."""
    sums, products = np.zeros(bins), np.zeros((bins, bins))
    for block in blocks:
        sums += block.sum(axis=0, dtype=np.float64)
        products += block.T @ block  # whole numbers of up to a block's rows: exact in float32
    return sums, products


def _log_arrangements(binned: Binned, groups: tuple[Codes, Codes], paired: bool) -> float:
    """Log of how many ways of exchanging there are."""
    if paired:
        return len(binned.a) * math.log(2)
    group = np.concatenate(groups)
    ways = 0.0
    for name in np.unique(group):
        count, own = int((group == name).sum()), int((groups[0] == name).sum())
        ways += float(log_choose(count, own))
    return ways
