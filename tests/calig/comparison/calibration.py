"""How often tests of word effects call a difference where there is none: skewed effects, few documents.

    python -m tests.calig.comparison.calibration [samples]

Prints, per shape and sizes, the share of null samples with p ≤ u over u, for Welch's t, and the permutation test.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy import stats

from calig.comparison.permutation import SCREEN, Sums, paired_p, paired_t, samples_p, samples_t

LEVELS = (1e-2, 1e-3, 1e-4, 1e-5)
BATCH = 50_000


def shapes(rng: np.random.Generator, name: str, size: tuple[int, ...]) -> np.ndarray:
    if name == "normal":
        return rng.normal(size=size)
    if name == "lognormal":
        return np.exp(rng.normal(size=size))
    # two kinds of use of a word: most documents hardly any effect, one in five a large one
    return rng.normal(0, 0.02, size=size) + (rng.random(size) < 0.2) * np.exp(rng.normal(0, 0.3, size=size))


def two_samples(
    rng: np.random.Generator, name: str, n: int, m: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    x = shapes(rng, name, (count, n + m))
    sides = [
        Sums(np.full(count, float(part.shape[1])), part.mean(1), part.var(1, ddof=1))
        for part in (x[:, :n], x[:, n:])
    ]
    welch = stats.ttest_ind(x[:, :n], x[:, n:], axis=1, equal_var=False).pvalue
    p = samples_t(*sides)
    open_ = np.flatnonzero(p < SCREEN)
    second = np.tile(np.arange(n + m) >= n, len(open_))
    p[open_] = samples_p(x[open_].ravel(), second, np.arange(len(open_)) * (n + m))
    return welch, p


def pairs(rng: np.random.Generator, name: str, n: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    change = shapes(rng, name, (count, n)) - shapes(rng, name, (count, n))
    p = paired_t(Sums(np.full(count, float(n)), change.mean(1), change.var(1, ddof=1)))
    student = p.copy()
    open_ = np.flatnonzero(p < SCREEN)
    p[open_] = paired_p(change[open_].ravel(), np.arange(len(open_)) * n)
    return student, p


def main(samples: int) -> None:
    rng = np.random.default_rng(0)
    for name in ("normal", "lognormal", "mixture"):
        for n, m in ((10, 10), (8, 40), (20, 20), (5, 200), (15, 200), (20, 0), (40, 0)):
            found = [np.zeros(len(LEVELS)), np.zeros(len(LEVELS))]
            for _ in range(samples // BATCH):
                both = two_samples(rng, name, n, m, BATCH) if m else pairs(rng, name, n, BATCH)
                for counts, p in zip(found, both, strict=True):
                    counts += [(p <= level).sum() for level in LEVELS]
            ratios = [counts / (samples // BATCH * BATCH) / LEVELS for counts in found]
            print(name, f"{n}+{m}" if m else f"{n} pairs", *(np.round(r, 2) for r in ratios), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
