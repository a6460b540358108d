"""What matters most of two runs' differences, in one sentence for a reader without statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from calig.comparison.counts import listed, of_kind
from calig.comparison.rows import Row
from calig.rows import number

NOTHING = "nothing changed"
"""Said where that is known: all numbers are the same, or all could be told from a change."""
NONE_FOUND = "no change found"
"""Said where some could not be."""
CANNOT_TELL = "cannot tell whether anything changed: nothing could be tested"

OUTCOMES = ("accuracy", "error", "output", "predicted share", "flips", "labelled share", "probability")
"""Outcomes in the order that they are told in; flips are predictions that differ on one document."""
WORD_CHANGES = {"new": 0, "gone": 0, "reversed": 0, "more frequent": 1, "less frequent": 1}
"""Changes of words in the order that they are told in; others come after."""

_MAIN = ("accuracy", "error")
_SHARES = ("accuracy", "predicted share", "labelled share")
_WORD_CHARACTERS = 60


def verdict(
    outcomes: Sequence[Row], layers: Sequence[Row], words: Mapping[str, Any], row: Row, notes: Sequence[str]
) -> str:
    """Return one sentence: the finding to be told first, all that changed in numbers, and `notes`.

    What comes out of the model is told before what words do, and that before its layers. Of outcomes accuracy, or the
    error, comes first, then predicted classes, then predictions that differ on the same document, which are a fact and
    no test; of words those that are new, gone or reversed; and within each the largest. Where anything changed, an
    accuracy or error that went one way, but is not called changed, is told first as what it is: it may be chance.

    Parameters
    ----------
    outcomes, layers
        Rows as `compare_outcomes` and `compare_layers` return them, each with its `state` where that is known.
    words
        Columns as `compare_words` returns them, with of_a and of_b, documents of the class.
    row
        The row of `comparisons`: what changed, what was tested and what was not, flips and paired documents; and
        `same`, whether all numbers of both runs are equal.
    notes
        What could not be compared, and what else is to be said.
    """
    told: list[tuple[tuple[float, ...], str]] = []
    told += [(_rank(one), _outcome(one)) for one in outcomes if one["changed"]]
    seen: set[tuple[str, str]] = set()
    for i in (i for i, own in enumerate(words["changed"]) if own):
        own = words["change"][i], words["word"][i]
        if own not in seen:  # of a word's classes the first: of all documents
            seen.add(own)
            told.append((_rank_of_word(words, i), _word(words, i)))
    told += [((2.0, 0.0, -abs(one["size"])), _layer(one)) for one in layers if one["changed"]]
    flips = f"{row['flips']} of {row['paired']} predictions changed" if row.get("flips") else ""
    if flips:
        told.append(((0.0, float(OUTCOMES.index("flips")), 0.0), flips))
    unsure = [one for one in outcomes if one["measure"] in _MAIN and _may_be_chance(one)]
    if not told:
        return "; ".join([*_nothing_told(outcomes, layers, words, row, unsure), *notes])
    rank, first = min(told)
    parts = [f"{_outcome(one)}, which may be chance" for one in unsure if _one_way(one)]
    parts += [first, *([flips] if flips and first != flips and rank[0] == 0 else [])]
    counts = of_kind(row, "changed")
    total = sum(count or 0 for count in counts.values())
    if total > (first != flips):
        parts.append(f"changed in all: {listed(counts)}")
    elif not total:
        parts.append(NONE_FOUND.replace("change", "other change"))
        parts += _not_tested(row)
    return "; ".join([*parts, *notes])


def _nothing_told(
    outcomes: Sequence[Row], layers: Sequence[Row], words: Mapping[str, Any], row: Row, unsure: Sequence[Row]
) -> list[str]:
    """What is said where no test found a change: that there is none, or that none could be seen."""
    states = {own["state"] for own in (*outcomes, *layers) if own.get("state")} | set(words.get("state", ()))
    untested = of_kind(row, "untested")
    known = all(count is not None for count in untested.values())
    if row.get("same") or (known and not any(untested.values()) and states <= {"no change", "not tested"}):
        return [NOTHING]
    if not any(of_kind(row, "tested").values()):
        return [f"{CANNOT_TELL}, the runs have {row['documents_a']:,} and {row['documents_b']:,} documents"]
    went = [
        f"{_subject(own)} went from {_value(own, own['a'])} to {_value(own, own['b'])}, which may be chance"
        for own in unsure
    ]
    return [NONE_FOUND, *went, *_not_tested(row)]


def _not_tested(row: Row) -> list[str]:
    untested = listed(of_kind(row, "untested"))
    return [f"too few documents to test {untested}"] if untested else []


def _may_be_chance(row: Row) -> bool:
    """Whether an outcome differs and is not called changed, though the documents leave room for a change."""
    differs = not row["changed"] and abs(row.get("difference", 0)) > 0
    return differs and row.get("state") in ("cannot tell", None)


def _one_way(row: Row) -> bool:
    """Whether the interval of a difference is on one side of 0."""
    return bool(row["low"] > 0 or row["high"] < 0)


def _rank(row: Row) -> tuple[float, ...]:
    """Where an outcome is told; how the explanation went comes after all else."""
    known = row["measure"] in OUTCOMES
    place = OUTCOMES.index(row["measure"]) if known else 0
    return (0.0 if known else 3.0, float(place), -abs(row["difference"]))


def _rank_of_word(words: Mapping[str, Any], i: int) -> tuple[float, ...]:
    """Where a word is told: by its kind of change, then by how far effect × share, or the share, moved."""
    change = words["change"][i]
    shares = [float(words[name][i]) for name in ("share_a", "share_b")]
    moved = abs(shares[1] - shares[0])
    if change in ("reversed", "stronger", "weaker"):
        moved = max(shares) * abs(float(words["difference"][i]))
    return (1.0, float(WORD_CHANGES.get(change, len(WORD_CHANGES))), -moved)


def _word(words: Mapping[str, Any], i: int) -> str:
    word, change, name = short(words["word"][i]), words["change"][i], words["class"][i]
    of_a, of_b = int(words["of_a"][i]), int(words["of_b"][i])
    documents = "" if name == "*" else f"{name} "
    if change == "new":
        return f"'{word}' is new: in {words['documents_b'][i]} of {of_b} {documents}documents"
    if change == "gone":
        return f"'{word}' is gone: it was in {words['documents_a'][i]} of {of_a} {documents}documents"
    if change in ("more frequent", "less frequent"):
        shares = [_percent(words[name][i]) for name in ("share_a", "share_b")]
        return f"'{word}' is {change}: in {shares[1]} of {documents}documents, it was in {shares[0]}"
    verb = "speaks the other way" if change == "reversed" else f"is {change}"
    effects = f"{words['effect_a'][i]:+.2f} to {words['effect_b'][i]:+.2f} logits"
    low, high = (float(words[end][i]) for end in ("low", "high"))
    return f"'{word}' {verb} for {name}: its effect went from {effects}{_between(low, high, _plain)}"


def short(word: str) -> str:
    """The word, cut if it is longer than words are."""
    return word if len(word) <= _WORD_CHARACTERS else word[: _WORD_CHARACTERS - 1] + "…"


def _outcome(row: Row) -> str:
    return f"{_subject(row)} {_moved(row)}"


def _layer(row: Row) -> str:
    of = "" if row["class"] == "*" else f" of {row['class']}"
    measure = row["measure"].replace("_", " ")
    return f"{measure}{of} at depth {row['depth']} {_moved(row)}"


def _subject(row: Row) -> str:
    """What an outcome is called in a sentence."""
    measure, name = row["measure"], row["class"]
    if measure in ("predicted share", "labelled share"):
        return f"the share of documents {measure.split()[0]} {name}"
    of = "" if name == "*" else f" of {name}"
    return "accuracy" if measure == "accuracy" else f"the mean {measure}{of}"


def _moved(row: Row) -> str:
    """By how much a number moved, the interval of that, and where to."""
    share = row["measure"] in _SHARES
    difference = row["b"] - row["a"]
    write = _points if share else _plain
    unit = (" point" if write(difference) == "1" else " points") if share else ""
    low, high = (float(row.get(end, math.nan)) for end in ("low", "high"))
    way = "rose" if difference > 0 else "fell"
    return f"{way} by {write(difference)}{unit}{_between(low, high, write)} to {_value(row, row['b'])}"


def _value(row: Row, value: float) -> str:
    return _percent(value) if row["measure"] in _SHARES else number(value, 3)


def _between(low: float, high: float, write: Any) -> str:
    """The interval of a difference in brackets, told as sizes where both ends go one way; nothing where it has none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    if low < 0 < high:
        return f" (between {write(low)} down and {write(high)} up)"
    near, far = sorted((abs(low), abs(high)))
    return f" (between {write(near)} and {write(far)})"


def _points(difference: float) -> str:
    """A difference of shares in points of per cent, without its sign: whole ones from 10 on."""
    size = 100 * abs(difference)
    if size >= 10:
        return f"{size:.0f}"
    return f"{size:.1f}".removesuffix(".0") if size >= 0.1 or not size else f"{size:.1g}"


def _plain(difference: float) -> str:
    return number(abs(difference), 3)


def _percent(share: float) -> str:
    """A share to three digits; what is not all or none is never rounded to that."""
    text = f"{100 * share:.3g}"
    if text == "100" and share < 1:
        return "more than 99.9 %"
    return f"{text} %"
