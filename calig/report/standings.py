"""Who is best on each metric, who cannot be told from the best, and the verdict on CA-LIG in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from calig.bootstrap import LEAST, mean_intervals
from calig.report.evaluation_data import EvaluationData, Method, Stat
from calig.report.formats import alike, integer, interval
from calig.report.measures import GROUPS, KNOWN, MAIN, RANDOM, SUBJECT, Measure, measure

Standing = Literal["first", "level", "beaten"]


@dataclass(frozen=True, slots=True)
class Column:
    """A metric under one removal: every method's mean, best first.

    `best` leads; `ties` are the methods whose paired difference to it has an interval that includes zero. Neither is
    set where no direction is better.
    """

    measure: Measure
    removal: str | None
    stats: Mapping[str, Stat]
    best: str | None
    ties: frozenset[str]

    @property
    def title(self) -> str:
        """What the column is called: the metric, and the removal if there is one."""
        return self.measure.title + (f" ({self.removal})" if self.removal else "")

    @property
    def main(self) -> bool:
        """Whether the verdict is about it."""
        return self.measure.name in MAIN


@dataclass(frozen=True, slots=True)
class Finding:
    """How CA-LIG stands on one metric: `text` says it, `beats_random` is None where random was not measured."""

    column: Column
    standing: Standing
    text: str
    beats_random: bool | None
    random_text: str


def columns(data: EvaluationData) -> list[Column]:
    """The table's columns: by group, then metric, then removal; the removals in the order they were asked for."""
    found: dict[tuple[str, str | None], list[Stat]] = {}
    for stat in data.stats:
        if stat.share is None and stat.mean is not None and measure(stat.metric):
            found.setdefault((stat.metric, stat.removal), []).append(stat)
    groups, metrics, removals = list(GROUPS), list(KNOWN), _removals(data)

    def order(key: tuple[str, str | None]) -> tuple[int, int, str, int]:
        known = measure(key[0])
        assert known is not None
        place = metrics.index(key[0]) if key[0] in metrics else len(metrics)
        return groups.index(known.group), place, key[0], removals.index(key[1])

    return [_column(data, *key, found[key]) for key in sorted(found, key=order)]


def _removals(data: EvaluationData) -> list[str | None]:
    asked = (data.evaluation.config.get("evaluation") or {}).get("removals") or ()
    present = [stat.removal for stat in data.stats]
    return [*(removal for removal in asked if removal in present), *dict.fromkeys(present)]


def _column(data: EvaluationData, metric: str, removal: str | None, stats: Sequence[Stat]) -> Column:
    known = measure(metric)
    assert known is not None
    ordered = sorted(stats, key=lambda stat: (-(known.better or 1) * (stat.mean or 0.0), stat.method))
    by_method = {stat.method: stat for stat in ordered}
    if not known.better:
        return Column(known, removal, by_method, None, frozenset())
    best = ordered[0].method
    return Column(
        known, removal, by_method, best, _ties(best, by_method, data.values.get((metric, removal), {}))
    )


def _ties(best: str, stats: Mapping[str, Stat], values: Mapping[str, Mapping[int, float]]) -> frozenset[str]:
    """Methods not told from the best: by the paired intervals of the tables where CA-LIG is one of the two."""
    found = set()
    for method, stat in stats.items():
        if method == best:
            continue
        if SUBJECT in (method, best):
            paired = stats[best] if method == SUBJECT else stat
            interval = (paired.difference_low, paired.difference_high)
        else:
            interval = _paired(values.get(method, {}), values.get(best, {}))
        low, high = interval
        if low is None or high is None or low <= 0 <= high:
            found.add(method)
    return frozenset(found)


def _paired(one: Mapping[int, float], other: Mapping[int, float]) -> tuple[float, float] | tuple[None, None]:
    """The bootstrap interval of the mean difference over the documents that both have; None of too few."""
    both = sorted(one.keys() & other.keys())
    if len(both) < LEAST:
        return None, None
    differences = np.array([[one[doc] - other[doc] for doc in both]])
    low, high = mean_intervals(differences)[0]
    return float(low), float(high)


def leads(stat: Stat, better: int) -> bool:
    """Whether a method is better than CA-LIG by an interval without zero."""
    if stat.difference_low is None or stat.difference_high is None:
        return False
    return min(better * stat.difference_low, better * stat.difference_high) > 0


def finding(column: Column, methods: Mapping[str, Method]) -> Finding | None:
    """How CA-LIG stands in a column; None if it is not in it, or no direction is better."""
    own = column.stats.get(SUBJECT)
    if own is None or column.best is None:
        return None
    better = column.measure.better
    order = list(column.stats)
    place, among = order.index(SUBJECT) + 1, f"of {integer(len(order))}"
    ahead = [stat for method, stat in column.stats.items() if method != SUBJECT and leads(stat, better)]
    standing: Standing
    if ahead:
        more = f", and by {integer(len(ahead) - 1)} more" if len(ahead) > 1 else ""
        text = f"is beaten by {_by(ahead[0], methods)}{more}; it is {_ordinal(place)} {among}"
        standing = "beaten"
    elif place > 1:
        ahead_by = _by(column.stats[column.best], methods, "ahead by ")
        text = f"is within the interval of the first, {ahead_by}; it is {_ordinal(place)} {among}"
        standing = "level"
    else:
        text = f"is first {among}" + _next(column, order, methods)
        standing = "first"
    beats, random_text = _random(column, own)
    return Finding(column, standing, f"CA-LIG {text}.", beats, random_text)


def _next(column: Column, order: Sequence[str], methods: Mapping[str, Method]) -> str:
    """What separates the first from the second."""
    if len(order) < 2:
        return ""
    second = column.stats[order[1]]
    if order[1] in column.ties:
        others = len(column.ties) - 1
        level = f", level with {methods[order[1]].title}"
        return level + (f" and {integer(others)} more" if others else "") + f" ({_apart(second)})"
    return f", ahead of {methods[order[1]].title} by {_apart(second)}"


def _by(stat: Stat, methods: Mapping[str, Method], how: str = "by ") -> str:
    comma = ", " if how != "by " else " "
    return f"{methods[stat.method].title}{comma}{how}{_apart(stat)}"


def _apart(stat: Stat) -> str:
    """The size of a paired difference and its interval, as 0.03 [0.01, 0.05], turned so that the size is positive."""
    if stat.difference is None or stat.difference_low is None or stat.difference_high is None:
        return "an unknown amount"
    sign = -1 if stat.difference < 0 else 1
    ends = sorted((sign * stat.difference_low, sign * stat.difference_high))
    size, low, high = alike(abs(stat.difference), *ends)
    return f"{size} [{low}, {high}]"


def _random(column: Column, own: Stat) -> tuple[bool | None, str]:
    """Whether CA-LIG beats random, which it does where their intervals are disjoint."""
    random = column.stats.get(RANDOM)
    if random is None:
        return None, ""
    ends = (own.low, own.high, random.low, random.high)
    if None in ends:
        return None, ""
    low, high, random_low, random_high = (float(end) for end in ends if end is not None)
    above, below = low > random_high, high < random_low
    pair = f"{interval(low, high)} against {interval(random_low, random_high)}"
    if above if column.measure.better > 0 else below:
        return True, f"It beats random: {pair}."
    if above or below:
        return False, f"It is worse than random: {pair}."
    return False, f"It does not beat random: {pair} overlap."


def verdict(findings: Sequence[Finding]) -> str:
    """The evaluation in one sentence."""
    if not findings:
        return "CA-LIG was not measured on any of the main metrics."
    if len(findings) == 1:
        only = findings[0]
        against = {True: " and beats random", False: " and does not beat random", None: ""}[only.beats_random]
        return f"On {name(only.column)} {only.text.rstrip('.')}{against}."
    total = len(findings)
    beaten = sum(one.standing == "beaten" for one in findings)
    first = sum(one.standing == "first" for one in findings)
    if beaten == total:
        text = f"CA-LIG is beaten on all {total} main measures"
    else:
        good = total - beaten
        place = "first" if first == good else "first or within the interval of the first"
        of = f"all {total}" if good == total else f"{good} of {total}"
        text = f"CA-LIG is {place} on {of} main measures" + (f" and beaten on {beaten}" if beaten else "")
    known = [one.beats_random for one in findings if one.beats_random is not None]
    if not known:
        return f"{text}."
    wins = sum(known)
    if wins == len(known):
        return f"{text}; it beats random on all."
    return f"{text}; it does not beat random on {len(known) - wins} of {len(known)}."


def name(column: Column) -> str:
    """A column's name in a sentence: AOPC comprehensiveness (delete)."""
    plain = column.title if column.title[:2].isupper() else column.title[0].lower() + column.title[1:]
    return f"AOPC {plain}" if column.measure.name in ("comprehensiveness", "sufficiency") else plain


def _ordinal(place: int) -> str:
    if place % 100 in (11, 12, 13):
        return f"{place}th"
    return f"{place}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(place % 10, 'th') }"
