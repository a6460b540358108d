"""Tails of permutation distributions built up value by value on a grid of sums.

Exact where the values are multiples of the grid's step. Elsewhere the chance of a value is split between the two points
beside it, so that its mean is kept; that widens the distribution by a known part, and the sum asked for moves out by as
much. Such a grid cannot tell the sum asked for from others near it, and takes half of its chance for smaller. So half
of the chance of the arrangement found is added; or, where many arrangements have one sum, the tail begins half way to
the sum before: the larger of the two.

References
----------
M. Pagano, D. Tritchler, *On Obtaining Permutation Distributions in Polynomial Time*, JASA 78, 1983.
"""

from __future__ import annotations

import math

import numpy as np

from calig.bootstrap import Doubles
from calig.comparison.exact import binomial

FINE = 64
"""Points in a standard deviation of the sum, where the step is free."""

NORMAL = 0.38  # the root mean square of the smaller half of normal values, relative to all

ADDITIONS = 3_000_000
"""Additions for a test, at most."""


def signs_grid(values: Doubles, times: Doubles, least: float, span: float) -> float | None:
    """Chance that values with chance signs sum to `least` or more, exactly.

    Parameters
    ----------
    values
        (d,) distinct ones, multiples of the span above 0.
    times
        (d,) how often each is there.
    least
        The sum, above 0.
    span
        The step of the grid.

    Returns
    -------
    The chance; None where it would cost too much.
    """
    steps = np.rint(np.repeat(values / span, times.astype(np.int64)))
    if steps.sum() * len(steps) > 4 * ADDITIONS:
        return None
    # the sum of those with a plus
    return _signs(steps, math.ceil((least / span + float(steps.sum())) / 2))


def signs_fine_grid(values: Doubles, times: Doubles, total: float, span: float, own: float) -> float | None:
    """Chance that values with chance signs sum to as much or more, nearly.

    Parameters
    ----------
    values
        (d,) distinct ones, above 0.
    times
        (d,) how often each is there.
    total
        The sum, above 0.
    span
        The largest number that all values are multiples of; 0 where there is none.
    own
        The chance of the signs found, among those of one value whichever have them.

    Returns
    -------
    The chance; None where it would cost too much.
    """
    square = float(values**2 @ times)
    steps = np.repeat(values, times.astype(np.int64))
    unit = math.sqrt(square) / (2 * FINE)  # the sum changes by twice the value whose sign does
    unit = _finer(unit, steps, float(steps.sum()) * len(steps) / 4)
    if not unit:
        return None
    steps = steps / unit
    part = steps % 1
    wider = math.sqrt(1 + 2 * float(part @ (1 - part)) * unit**2 / square)
    sums = (total - span, total) if span else (total,)
    tails = [_signs(steps, (least / unit * wider + float(steps.sum())) / 2) for least in sums]
    return max(tails[0], tails[-1] + own / 2)


def draws_grid(values: Doubles, times: Doubles, drawn: int, least: float, span: float) -> float | None:
    """Chance that so many values, drawn without replacement, sum to `least` or more, exactly.

    Parameters
    ----------
    values
        (d,) distinct ones, rising, of mean 0, apart by multiples of the span.
    times
        (d,) how often each is there.
    drawn
        How many are drawn: 1 to n − 1.
    least
        The sum.
    span
        The step of the grid.

    Returns
    -------
    The chance; None where it would cost too much.
    """
    if 2 * drawn > times.sum():  # the rest of the values sum to the more, the less these do
        return draws_grid(-values[::-1], times[::-1], int(times.sum()) - drawn, least, span)
    common = int(np.argmax(times))
    steps = np.rint((values - values[common]) / span)
    return _draws(steps, times, common, drawn, math.ceil((least - drawn * values[common]) / span))


def draws_fine_grid(
    values: Doubles, times: Doubles, drawn: int, total: float, span: float, own: float
) -> float | None:
    """Chance that so many values, drawn without replacement, sum to as much or more, nearly.

    Parameters
    ----------
    values
        (d,) distinct ones, rising, of mean 0 and mean square 1.
    times
        (d,) how often each is there.
    drawn
        How many are drawn: 1 to n − 1.
    total
        The sum.
    span
        The largest number that all differences of values are multiples of; 0 where there is none.
    own
        The chance of the draw found, among those of one value whichever are drawn.

    Returns
    -------
    The chance; None where it would cost too much.
    """
    count = int(times.sum())
    if 2 * drawn > count:
        return draws_fine_grid(-values[::-1], times[::-1], count - drawn, total, span, own)
    variance = drawn * (1 - drawn / count)
    common = int(np.argmax(times))
    unit = _finer(math.sqrt(variance) / FINE, *_off(values - values[common], times, drawn))
    if not unit:
        return None
    steps = (values - values[common]) / unit
    part = steps % 1
    wider = math.sqrt(1 + drawn / count * float(part * (1 - part) @ times) * unit**2 / variance)
    tails = []
    for least in (total - span / 2, total) if span else (total,):
        tail = _draws(steps, times, common, drawn, (least * wider - drawn * values[common]) / unit)
        if tail is None:
            return None
        tails.append(tail)
    return max(tails[0], tails[-1] + own / 2)


def _signs(steps: Doubles, aim: float) -> float:
    """Chance that those of the values that get a plus sum to the aim or more."""
    first, second = (_signed(steps[side::2])[None] for side in (0, 1))
    return _beyond(first, second, np.ones((1, 1)), aim)


def _draws(steps: Doubles, times: Doubles, common: int, drawn: int, aim: float) -> float | None:
    """Chance that so many values, drawn without replacement, sum to the aim or more; one of them is 0."""
    count, rest = int(times.sum()), int(times[common])
    steps, additions = _off(steps, times, drawn)
    if additions > ADDITIONS:
        return None
    # each value is drawn with this chance, given that as many are drawn as there should be
    share = drawn / count
    (first, least), (second, lowest) = (_drawn(steps[side::2], share, drawn) for side in (0, 1))
    # so many are to come from the common value
    left = drawn - np.add.outer(np.arange(len(first)), np.arange(len(second)))
    fits = (left >= 0) & (left <= rest)
    weight = binomial(rest, share)[np.where(fits, left, 0)] * fits
    return _beyond(first, second, weight, aim - least - lowest) / float(binomial(count, share)[drawn])


def _off(values: Doubles, times: Doubles, drawn: int) -> tuple[Doubles, float]:
    """Return the values other than 0, and how many additions their sums take, for a step of 1."""
    found = np.repeat(values, np.where(values == 0, 0, times).astype(np.int64))
    width = float(np.sort(np.abs(found))[-2 * drawn :].sum())
    return found, width * min(drawn, len(found)) * len(found) / 4


def _finer(unit: float, values: Doubles, additions: float) -> float:
    """Return the step of a fine grid: finer where the smaller half of the values is far smaller than the rest.

    Where a few large values are on one side the others decide. 0 where even the coarse grid takes too many additions,
    of which there are so many for a step of 1.
    """
    square = np.sort(values**2)
    inner = math.sqrt(float(square[: (len(square) + 1) // 2].mean() / square.mean()))
    if additions > ADDITIONS * unit:
        return 0.0
    return max(unit * min(1.0, inner / NORMAL), additions / ADDITIONS)


def _signed(steps: Doubles) -> Doubles:
    """Chances of the sums of those values that get a plus, from 0 up."""
    whole, part = np.floor(steps).astype(np.int64), steps % 1
    chance = np.zeros(int((whole + (part > 0)).sum()) + 1)
    chance[0], end = 1, 1
    for step, share in zip(whole.tolist(), part.tolist(), strict=True):
        half = chance[:end] / 2
        chance[:end] = half
        chance[step : step + end] += (1 - share) * half
        if share:
            chance[step + 1 : step + 1 + end] += share * half
        end += step + (share > 0)
    return chance


def _drawn(steps: Doubles, share: float, drawn: int) -> tuple[Doubles, int]:
    """Chances of how many of the values are drawn (rows) and of their sum, and the lowest sum."""
    whole, part = np.floor(steps).astype(np.int64), steps % 1
    most = min(drawn, len(whole))
    lowest = int(np.minimum(np.sort(whole)[:most], 0).sum())
    highest = int(np.maximum(np.sort(whole + (part > 0))[len(whole) - most :], 0).sum())
    width = highest - lowest + 1
    chance = np.zeros((most + 1, width))
    seen, low, high = 0, -lowest, -lowest
    chance[0, low] = 1
    for step, up in zip(whole.tolist(), part.tolist(), strict=True):
        rows = min(seen, most - 1) + 1
        start, end = max(low, -step), min(high + 1, width - step - (up > 0))
        own = chance[:rows, start:end] * share
        chance[: seen + 1, low : high + 1] *= 1 - share
        chance[1 : rows + 1, start + step : end + step] += (1 - up) * own
        if up:
            chance[1 : rows + 1, start + step + 1 : end + step + 1] += up * own
        seen = min(seen + 1, most)
        low, high = max(min(low, low + step), 0), min(max(high, high + step + (up > 0)), width - 1)
    return chance, lowest


def _beyond(first: Doubles, second: Doubles, weight: Doubles, aim: float) -> float:
    """Chance that the sums of two parts come to the aim or more, each pair of rows having a weight.

    Where the aim is not whole, a point's chance is spread from half a step before it to half a step behind.
    """
    tails = np.zeros((len(second), second.shape[1] + 1))
    tails[:, :-1] = np.cumsum(second[:, ::-1], axis=1)[:, ::-1]
    tails = weight @ tails
    place = math.floor(aim + 0.5)
    beside = 0.0 if isinstance(aim, int) else aim + 0.5 - place

    def beyond(place: int) -> float:
        at = np.clip(place - np.arange(first.shape[1]), 0, tails.shape[1] - 1)
        return float((first * tails[:, at]).sum())

    return (1 - beside) * beyond(place) + beside * beyond(place + 1) if beside else beyond(place)
