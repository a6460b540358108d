"""Exact tails of permutation distributions, where there are few values, or few distinct ones.

Values come as distinct ones with how often each is there, so that n documents of which all but ten have the same value
cost what ten do. They are cut into two halves whose sums are listed, and each sum of one half is looked up among those
of the other, as in Horowitz and Sahni's algorithm for sums of subsets.

References
----------
E. Horowitz, S. Sahni, *Computing Partitions with Applications to the Knapsack Problem*, J. ACM 21, 1974.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import scipy  # its parts are loaded where they are first used

from calig.bootstrap import Doubles

SUMS = 4096
"""Sums listed of a half, at most: those of 12 values without ties."""

FAR = 300_000
"""The same where few arrangements are as far out, so that nothing but going through them tells how many."""

ROWS = 16  # numbers held at once where halves are joined, for each sum that there may be

_Sums: TypeAlias = tuple[Doubles, Doubles, Doubles]  # how many values are drawn, their sum, its probability


def signs_tail(values: Doubles, times: Doubles, least: float, most: int = SUMS) -> float | None:
    """Chance that values with chance signs sum to `least` or more.

    Parameters
    ----------
    values
        (d,) distinct, above 0.
    times
        (d,) how often each is there.
    least
        The sum, above 0.
    most
        Sums listed of a half, at most.

    Returns
    -------
    The chance; None where it would cost too much.
    """
    if len(values) > 2 * math.log2(most) + 1:
        return None
    halves = _halves(np.log(times + 1))
    if max(float(np.log(times[half] + 1).sum()) for half in halves) <= math.log(most + 0.5):
        first, second = (_signed(values[half], times[half]) for half in halves)
        order = np.argsort(-second[0])
        tails = np.append(0, np.cumsum(second[1][order]))
        found = np.searchsorted(-second[0][order], first[0] - least, side="right")
        return float(first[1] @ tails[found])
    return None


def draws_tail(values: Doubles, times: Doubles, drawn: int, least: float, most: int = SUMS) -> float | None:
    """Chance that so many values, drawn without replacement, sum to `least` or more.

    Parameters
    ----------
    values
        (d,) distinct, rising.
    times
        (d,) how often each is there.
    drawn
        How many are drawn: 1 to n − 1.
    least
        The sum.
    most
        Sums listed of a half, at most.

    Returns
    -------
    The chance; None where it would cost too much.
    """
    count = int(times.sum())
    if 2 * drawn > count:  # the rest of the values sum to the more, the less these do
        total = float(values @ times)
        return draws_tail(-values[::-1], times[::-1], count - drawn, least - total, most)
    common = int(np.argmax(times))
    shifted, least = values - values[common], least - drawn * values[common]
    others = np.arange(len(values)) != common
    return _joined(shifted[others], times[others], times[common], drawn, least, most)


def _halves(weight: Doubles) -> tuple[list[int], list[int]]:
    """Cut into two parts of about the same weight."""
    parts: tuple[list[int], list[int]] = ([], [])
    total = [0.0, 0.0]
    for place in np.argsort(-weight):
        side = int(total[1] < total[0])
        parts[side].append(int(place))
        total[side] += weight[place]
    return parts


def _signed(values: Doubles, times: Doubles) -> tuple[Doubles, Doubles]:
    """All sums of values with signs, and their chances."""
    sums, chance = np.zeros(1), np.ones(1)
    for value, count in zip(values, times, strict=True):
        up = np.arange(count + 1)
        sums = np.add.outer(sums, (2 * up - count) * value).ravel()
        chance = np.multiply.outer(chance, binomial(count, 0.5)).ravel()
    return sums, chance


def _joined(
    values: Doubles, times: Doubles, rest: float, drawn: int, least: float, most: int
) -> float | None:
    """`draws_tail` where one more value, 0, is there `rest` times."""
    if drawn > 1 and len(values) ** 2 > 8 * most:  # draws of two from half of them are as many
        return None
    count = float(times.sum()) + rest
    halves = _halves(np.log(np.minimum(times, drawn) + 1))
    if any(_listed(times[half], drawn, most) > most for half in halves):
        return None
    # each value is drawn with this chance, given that as many are drawn as there should be
    share = drawn / count
    (few, sums, chance), (others, other_sums, other_chance) = (
        _drawn(values[half], times[half], share, drawn) for half in halves
    )
    rows = int(few.max()) + 1
    if rows * len(others) > ROWS * most:
        return None
    order = np.argsort(-other_sums)
    left = drawn - np.add.outer(np.arange(rows), others[order])  # are to come from the rest
    fits = (left >= 0) & (left <= rest)
    filled = binomial(rest, share)[np.where(fits, left, 0).astype(np.int64)] * fits
    tails = np.zeros((rows, len(others) + 1))
    np.cumsum(filled * other_chance[order], axis=1, out=tails[:, 1:])
    found = np.searchsorted(-other_sums[order], sums - least, side="right")
    together = float(chance @ tails[few.astype(np.int64), found])
    return together / float(binomial(count, share)[drawn])


def _listed(times: Doubles, drawn: int, most: int) -> float:
    """How many sums `_drawn` lists, at most; where they are more than so many, any number above it."""
    every: float = math.prod((times + 1).tolist())
    count, ways, few = int(times.sum()), 1, 1
    for k in range(1, min(drawn, count) + 1):
        ways = ways * (count - k + 1) // k
        few += ways
        if few > most:
            break
    return min(every, few)


def _drawn(values: Doubles, times: Doubles, share: float, most: int) -> _Sums:
    """All sums of up to so many of the values, each drawn with the same chance."""
    few, sums, chance = np.zeros(1), np.zeros(1), np.ones(1)
    for value, count in zip(values, times, strict=True):
        own = np.arange(min(count, most) + 1)
        few = np.add.outer(few, own).ravel()
        sums = np.add.outer(sums, own * value).ravel()
        chance = np.multiply.outer(chance, binomial(count, share)[: len(own)]).ravel()
        if len(few) > 64:
            fits = few <= most
            few, sums, chance = few[fits], sums[fits], chance[fits]
    return few, sums, chance


def binomial(count: float, share: float) -> Doubles:
    """(count + 1,) chances of 0, 1, … of so many."""
    if count == 1:
        return np.array([1 - share, share])
    k = np.arange(count + 1)
    found: Doubles = np.exp(log_choose(count, k) + k * math.log(share) + (count - k) * math.log1p(-share))
    return found


def log_choose(total: Any, drawn: Any) -> Any:
    """Log of the number of ways to draw so many out of so many; of arrays, element by element."""
    return (
        scipy.special.gammaln(total + 1)
        - scipy.special.gammaln(drawn + 1)
        - scipy.special.gammaln(total - drawn + 1)
    )
