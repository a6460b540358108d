"""Slow drift: how often does the control say that something moved when nothing has, and how soon does it find what has?

    python -m tests.benchmarks.slow_drift

Nights are simulated from their statistics: a mean, or a share of so many documents. Quiet series are three times as
long as the stated run length; beside the control stands one that standardises by mean and spread in place of ranks
(Hawkins).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.stats

from calig.bootstrap import Doubles
from calig.comparison.sequential import ALLOWANCE, Alarm, control, detectable, limit_of

RESULTS = Path(__file__).parent / "results" / "slow_drift.md"
RUN_LENGTH = 365
DEFAULT = 4 * 3 * 365
"""Run length of accuracy at one false alarm a year: a fourth is this gate's, and accuracy one of its three groups."""
QUIET, LONGEST = 60, 300
Series = tuple[Doubles, Doubles]
Nights = Callable[[np.random.Generator, int, int], Series]


def alike(values: Doubles, documents: float = 1.0) -> Series:
    """Nights of as many documents each."""
    return values, np.full(values.shape, documents)


def share(documents: int, accuracy: float) -> Nights:
    """Binomial nights: the share of so many documents that are predicted right."""
    return lambda rng, runs, series: alike(
        rng.binomial(documents, accuracy, (runs, series)) / documents, documents
    )


def of_sizes(sizes: Callable[[np.random.Generator, int], Doubles], spread: float = 0.0) -> Nights:
    """Binomial nights of other sizes; `spread` is that of the nights' own accuracy."""

    def draw(rng: np.random.Generator, runs: int, series: int) -> Series:
        documents = np.repeat(sizes(rng, runs)[:, None], series, axis=1)
        accuracy = np.clip(0.87 + spread * rng.normal(size=(runs, series)), 0, 1)
        return rng.binomial(documents.astype(int), accuracy) / documents, documents

    return draw


def overlapping(part: float) -> Nights:
    """Normal nights, each of which has this part of its documents from the night before."""

    def draw(rng: np.random.Generator, runs: int, series: int) -> Series:
        values = rng.normal(size=(runs, series))
        for run in range(1, runs):
            values[run] = part * values[run - 1] + math.sqrt(1 - part**2) * values[run]
        return alike(values)

    return draw


def weekends(rng: np.random.Generator, runs: int) -> Doubles:
    """400 documents, 60 on two of seven nights."""
    return np.where(np.arange(runs) % 7 < 5, 400.0, 60.0)


def falling(rng: np.random.Generator, runs: int) -> Doubles:
    """From 400 documents down to 60."""
    return np.linspace(400, 60, runs).round()


KINDS: dict[str, Nights] = {
    "normal": lambda rng, runs, series: alike(rng.normal(size=(runs, series))),
    "60 documents, accuracy 0.87": share(60, 0.87),
    "400 documents, accuracy 0.87": share(400, 0.87),
    "60 documents, accuracy 0.97 (ties)": share(60, 0.97),
    "exponential": lambda rng, runs, series: alike(rng.exponential(size=(runs, series))),
    "Student's t, 3 degrees of freedom": lambda rng, runs, series: alike(rng.standard_t(3, (runs, series))),
    "nine of ten are 0, else exponential": lambda rng, runs, series: alike(
        rng.binomial(1, 0.1, (runs, series)) * rng.exponential(size=(runs, series))
    ),
    "400 documents, 60 at weekends": of_sizes(weekends),
    "400 documents falling to 60": of_sizes(falling),
    "the same, and nights of their own accuracy (± 3 points)": of_sizes(falling, 0.03),
    "a fifth of the documents are the night before's": overlapping(0.2),
    "half of the documents are the night before's": overlapping(0.5),
    "nine of ten documents are the night before's": overlapping(0.9),
}
OVERLAPS = dict(zip(list(KINDS)[-3:], (0.2, 0.5, 0.9), strict=True))


def hawkins(values: Doubles, weights: Doubles, limit: float) -> list[list[Alarm]]:
    """Alarms of the control whose scores are t-distributed residuals, made normal and clipped at ±4."""
    series = values.shape[1]
    total, mean, squares, count, high, low = (np.zeros(series) for _ in range(6))
    alarms: list[list[Alarm]] = [[] for _ in range(series)]
    for run, (x, w) in enumerate(zip(values, weights, strict=True)):
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (x - mean) / np.sqrt(squares / (count - 1) * (1 / w + 1 / total))
        tail = scipy.stats.t.sf(np.abs(t), np.maximum(count - 1, 1))
        score = np.sign(t) * np.minimum(4, scipy.stats.norm.isf(np.maximum(tail, 1e-300)))
        score = np.where((count < 2) | np.isnan(t), 0, score)
        step = x - mean
        total += w
        mean += step * w / total
        squares += w * step * (x - mean)
        count += 1
        high, low = (np.maximum(0, s + sign * score - ALLOWANCE) for s, sign in ((high, 1), (low, -1)))
        for one in np.flatnonzero(np.maximum(high, low) >= limit):
            alarms[one].append(Alarm(run, run, 1))
            for state in (total, mean, squares, count, high, low):
                state[one] = 0
    return alarms


def ranked(values: Doubles, weights: Doubles, limit: float, overlap: float = 0.0) -> list[list[Alarm]]:
    """Alarms of the control."""
    states = control(values, weights, np.full(values.shape[1], limit), overlap)
    return [list(state.alarms) for state in states]


def quiet(series: int) -> list[str]:
    """A table of false alarms."""
    runs, limit = 3 * RUN_LENGTH, limit_of(RUN_LENGTH)
    expected = 1 - math.exp(-1)
    lines = [
        f"{series} series a row of {runs} nights in which nothing changes, stated run length {RUN_LENGTH}: alarms, "
        f"against the stated {series * 3} (95 % interval), and series with an alarm in the first {RUN_LENGTH} nights "
        f"(stated: {expected:.0%}; the control learns at first).",
        "",
        "| nights | alarms ÷ stated | 95 % interval | with an alarm in the first 365 | Hawkins: alarms ÷ stated |",
        "|---|---|---|---|---|",
    ]
    for name, nights in KINDS.items():
        values, weights = nights(np.random.default_rng(19), runs, series)
        found = ranked(values, weights, limit, OVERLAPS.get(name, 0.0))
        count, stated = sum(map(len, found)), runs * series / RUN_LENGTH
        low = scipy.stats.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
        high = scipy.stats.chi2.ppf(0.975, 2 * count + 2) / 2
        first = sum(any(alarm.found < RUN_LENGTH for alarm in own) for own in found)
        ends = scipy.stats.binomtest(first, series).proportion_ci(method="wilson")
        other = sum(map(len, hawkins(values, weights, limit)))
        lines.append(
            f"| {name} | {count / stated:.2f} | {low / stated:.2f} – {high / stated:.2f} | {first / series:.0%} "
            f"({ends.low:.0%} – {ends.high:.0%}) | {other / stated:.2f} |"
        )
        print(lines[-1], flush=True)
    return lines


def rare() -> list[str]:
    """A sentence on Hawkins' control at a run length as many metrics need it."""
    runs, series, length = 1000, 8000, 40_000
    shares = []
    for name in ("normal", "exponential"):
        values, weights = KINDS[name](np.random.default_rng(19), runs, series)
        found = sum(map(len, hawkins(values, weights, limit_of(length))))
        shares.append(f"{found * length / (runs * series):.2f} ({name})")
    return [
        f"At a stated run length of {length:,}, which one of many metrics has, Hawkins' alarms ÷ stated depend on the "
        f"distribution: {', '.join(shares)}, {series:,} series of {runs:,} nights. Ranks have one distribution."
    ]


def changes(series: int) -> list[str]:
    """A table of how soon changes are found."""
    limit = limit_of(DEFAULT)
    size = detectable(limit, QUIET, 30)
    lines = [
        f"Accuracy 0.87 for {QUIET} nights, then a change; {series} series a row at the default rate (stated run "
        f"length {DEFAULT}), looked at for {LONGEST} nights. Said to be detectable: a step of {size:.2f} standard "
        "deviations of a night, in 30 nights, with 80 % power.",
        "",
        "| change | documents | said detectable | found at all | median nights until found | in 30 nights | "
        "median error of the date, nights | Hawkins: median |",
        "|---|---|---|---|---|---|---|---|",
    ]
    after = np.arange(1, LONGEST + 1)
    for name, change in (
        ("falls by 0.1 point a night", 0.001 * after),
        ("falls by 3 points at once", np.full(LONGEST, 0.03)),
        ("falls at once by what is said to be detectable", None),
    ):
        for documents in (60, 100, 400, 2000):
            said = size * math.sqrt(0.87 * 0.13 / documents) if size else math.nan
            fall = np.full(LONGEST, said) if change is None else change
            accuracy = np.concatenate([np.full(QUIET, 0.87), np.maximum(0, 0.87 - fall)])
            values, weights = alike(
                np.random.default_rng(documents).binomial(
                    documents, accuracy[:, None], (QUIET + LONGEST, series)
                )
                / documents,
                documents,
            )
            found = [first(own) for own in ranked(values, weights, limit)]
            nights = [alarm.found - QUIET + 1 if alarm else math.inf for alarm in found]
            error = [abs(alarm.since - QUIET) for alarm in found if alarm]
            others = [first(own) for own in hawkins(values, weights, limit)]
            other = np.median([alarm.found - QUIET + 1 if alarm else math.inf for alarm in others])
            lines.append(
                f"| {name} | {documents} | {100 * said:.1f} points | {np.mean(np.isfinite(nights)):.0%} | "
                f"{np.median(nights):.0f} | {np.mean(np.array(nights) <= 30):.0%} | {np.median(error):.0f} | "
                f"{other:.0f} |"
            )
            print(lines[-1], flush=True)
    return lines


def first(alarms: list[Alarm]) -> Alarm | None:
    """The first alarm after the change."""
    return next((alarm for alarm in alarms if alarm.found >= QUIET), None)


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=200)
    series = parser.parse_args().series
    lines = [
        "# Slow drift",
        "",
        f"`python -m tests.benchmarks.slow_drift --series {series}`: the sequential control of `calig history` and of "
        "the gate `slow_drift`, on nights simulated from their statistics.",
        "",
        "## Quiet nights",
        "",
        *quiet(series),
        "",
        "Fewer alarms than stated come where many nights are equal. Nights that share documents are not independent: "
        "the control allows for the share that the comparisons with the previous night find (Hawkins' does not).",
        "",
        *rare(),
        "",
        "## Changes",
        "",
        *changes(series),
    ]
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
