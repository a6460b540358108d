"""Are the p-values of permutation tests right? Against all arrangements, exact tails, and with nothing changed.

    python -m tests.calig.comparison.calibration [exhaustive] [approximate] [null] [samples]

Prints tables; those in tests/benchmarks/results/permutation.md are from it.

exhaustive: small samples of every shape, 2 to 7 of each side or 2 to 12 pairs, against all arrangements.
approximate: what stands in where an exact tail would take too long, forced upon 20 to 60 documents whose exact tail is
    known. It is needed where the sums are too many to be listed.
null: the share of samples with p up to a level, over the level, where nothing changed; beside it, of Welch's t.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
from scipy import stats

from calig.comparison import grid, paired_p, permutation, samples_p
from tests.calig.comparison.exhaustive import (
    SHAPES,
    leaning,
    pairs_exactly,
    rising,
    sample,
    samples_exactly,
)

START = np.zeros(1, dtype=np.int64)
LEVELS = (1e-2, 1e-3, 1e-4)
SIZES = ((10, 10), (8, 40), (20, 20), (5, 200), (15, 200), (20, 0), (40, 0))
BATCH = 10_000
SCREEN = 0.1  # of Student's t, beyond which no p up to 1e-2 is looked for


def exhaustive(rng: np.random.Generator, shape: str, count: int) -> tuple[int, float]:
    """How many p-values were compared, and the worst relative error."""
    errors = []
    for _ in range(count):
        n, m = rng.integers(2, 8, 2)
        values = sample(rng, shape, n + m)
        second = leaning(rng, values, m)
        errors.append(samples_p(values, second, START)[0] / samples_exactly(values, second) - 1)
        size = rng.integers(2, 13)
        change = rising(rng, sample(rng, shape, size) - sample(rng, shape, size))
        errors.append(paired_p(change, START)[0] / pairs_exactly(change) - 1)
    known = np.array(errors)[~np.isnan(errors)]
    return len(known), float(np.abs(known).max())


def approximate(rng: np.random.Generator, shape: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors of the approximation, where the exact p is 1e-6 to 0.2, and where its sums cannot be listed."""
    errors, used = [], []
    whole = shape in ("0/1", "few integers", "tenths")
    for _ in range(count):
        size = int(rng.integers(20, 61))
        first, other = (sample(rng, shape, size) for _ in "ab")
        if not whole:
            first, other = np.rint(first * 100), np.rint(other * 100)  # so that there is an exact tail
        second = leaning(rng, first, int(rng.integers(5, size - 4)))
        for test, own in (
            (samples_p, (first, second, START)),
            (paired_p, (rising(rng, first - other), START)),
        ):
            with _forced() as listed:
                found = test(*own)[0]
            with mock.patch.multiple(grid, ADDITIONS=1e9):
                known = test(*own)[0]
            if 1e-6 <= known <= 0.2 and listed:
                errors.append(found / known - 1)
                used.append(listed[0] is None)
    return np.array(errors), np.array(used)


@contextmanager
def _forced() -> Iterator[list[float | None]]:
    """Without exact tails, but for those of the largest sum; the list tells what listing the sums would have given."""
    listed: list[float | None] = []

    def watched(tail: Callable[..., float | None]) -> Callable[..., float | None]:
        def once(*own: Any) -> float | None:
            listed.append(tail(*own))
            return None if len(listed) == 1 else listed[-1]

        return once

    with mock.patch.multiple(
        permutation,
        signs_tail=watched(permutation.signs_tail),
        draws_tail=watched(permutation.draws_tail),
        signs_grid=lambda *_: None,
        draws_grid=lambda *_: None,
    ):
        yield listed


def null(rng: np.random.Generator, shape: str, n: int, m: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Welch's p-values (of pairs, Student's) and those of the permutation test of so many samples."""
    if m:
        x = np.stack([sample(rng, shape, n + m) for _ in range(count)])
        with np.errstate(all="ignore"):
            welch = stats.ttest_ind(x[:, :n], x[:, n:], axis=1, equal_var=False).pvalue
            kinds = x, stats.rankdata(x, axis=1)
            near = _near([stats.ttest_ind(own[:, :n], own[:, n:], axis=1).pvalue for own in kinds])
        second = np.tile(np.arange(n + m) >= n, len(near))
        found = samples_p(x[near].ravel(), second, np.arange(len(near)) * (n + m))
    else:
        # both sides of a pair from one call: two calls may differ in how often values are 0
        both = np.stack([sample(rng, shape, 2 * n) for _ in range(count)])
        x = both[:, :n] - both[:, n:]
        with np.errstate(all="ignore"):
            welch = stats.ttest_1samp(x, 0, axis=1).pvalue
            ranks = np.sign(x) * stats.rankdata(np.abs(x), axis=1)
            near = _near([welch, stats.ttest_1samp(ranks, 0, axis=1).pvalue])
        found = paired_p(x[near].ravel(), np.arange(len(near)) * n)
    p = np.ones(count)
    p[near] = np.where(np.isnan(found), 1, found)
    return welch, p


def _near(p: list[np.ndarray]) -> np.ndarray:
    """Samples that Student's t, of the values or of their ranks, finds at all near."""
    found: np.ndarray = np.flatnonzero((np.array(p) < SCREEN).any(axis=0))
    return found


def main(parts: list[str], samples: int) -> None:
    rng = np.random.default_rng(0)
    if "exhaustive" in parts:
        print("\n| values | p-values | worst relative error |\n|---|---|---|")
        for shape in SHAPES:
            print(f"| {shape} | {{}} | {{:.1e}} |".format(*exhaustive(rng, shape, 800)), flush=True)
    if "approximate" in parts:
        print("\n| values | needed | p-values | lowest | highest | median size |\n|---|---|---|---|---|---|")
        for shape in SHAPES:
            errors, used = approximate(rng, shape, 400)
            for needed in (True, False):
                own = errors[used == needed]
                if len(own):
                    worst = f"{own.min():+.3f} | {own.max():+.3f} | {np.median(np.abs(own)):.4f}"
                    print(f"| {shape} | {'yes' if needed else 'no'} | {len(own)} | {worst} |", flush=True)
    if "null" in parts:
        print("\n| values | documents |", *(f"t {u:g} | p {u:g} |" for u in LEVELS))
        print("|---|---|" + "---|" * 2 * len(LEVELS))
        for shape in SHAPES:
            for n, m in SIZES:
                counts = np.zeros((len(LEVELS), 2))
                for _ in range(samples // BATCH):
                    both = null(rng, shape, n, m, BATCH)
                    counts += [[(p <= level).sum() for p in both] for level in LEVELS]
                ratios = counts / (samples // BATCH * BATCH) / np.array(LEVELS)[:, None]
                cells = " | ".join(f"{ratio:.2f}" for ratio in ratios.ravel())
                print(f"| {shape} | {f'{n} + {m}' if m else f'{n} pairs'} | {cells} |", flush=True)


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if not word.isdigit()]
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    main(words or ["exhaustive", "approximate", "null"], numbers[0] if numbers else 30_000)
