"""What changed most between two runs, in one sentence of plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from calig.comparison.rows import Row
from calig.rows import number

_KIND = {"new": 0, "gone": 1}
_OUTCOMES = ("accuracy", "predicted share", "labelled share", "probability", "output", "error")


def verdict(
    outcomes: Sequence[Row], layers: Sequence[Row], words: Mapping[str, Any], notes: Sequence[str]
) -> str:
    """Return one sentence: the change to be told first, how many more there are, and `notes`.

    Words that are new or gone come first, the most frequent first; then outcomes, accuracy before classes before
    confidence; then words, the surest first; then the layer profile, the largest first; last how the explanation went.

    Parameters
    ----------
    outcomes, layers
        Rows as `compare_outcomes` and `compare_layers` return them.
    words
        Columns as `compare_words` returns them, with of_a and of_b, documents of the class.
    notes
        What could not be compared.
    """
    changed_words = [i for i, changed in enumerate(words["changed"]) if changed]
    told: list[tuple[tuple[float, ...], str]] = []
    seen: set[tuple[str, str]] = set()
    for i in changed_words:
        change, word = words["change"][i], words["word"][i]
        where = max(words["share_a"][i], words["share_b"][i])
        surest = float(min(_or_inf(words["share_q"][i]), _or_inf(words["q"][i])))
        rank: tuple[float, ...] = (
            (0.0, _KIND[change], -where, words["class"][i] != "*") if change in _KIND else (2.0, surest)
        )
        if (change, word) not in seen:  # of a word's classes the first: of all documents
            seen.add((change, word))
            told.append((rank, _word(words, i)))
    for row in outcomes:
        if row["changed"]:
            told.append(((*_place(row["measure"]), row["q"], -_relative(row)), _outcome(row)))
    told += [((3.0, -abs(row["size"])), _layer(row)) for row in layers if row["changed"]]
    if not told:
        sentence = "nothing changed"
    else:
        more = len(told) - 1
        sentence = min(told)[1] + (f"; {more} more change{'s' if more > 1 else ''}" if more else "")
    return "; ".join([sentence, *notes])


def _word(words: Mapping[str, Any], i: int) -> str:
    word, change, name = words["word"][i], words["change"][i], words["class"][i]
    of_a, of_b = int(words["of_a"][i]), int(words["of_b"][i])
    documents = "" if name == "*" else f"{name} "
    if change == "new":
        return f"'{word}' is new: in {words['documents_b'][i]} of {of_b} {documents}documents"
    if change == "gone":
        return f"'{word}' is gone: it was in {words['documents_a'][i]} of {of_a} {documents}documents"
    if change in ("more frequent", "less frequent"):
        shares = [_percent(words[name][i]) for name in ("share_a", "share_b")]
        return f"'{word}' is {change}: in {shares[1]} of {documents}documents, it was in {shares[0]}"
    effects = f"{words['effect_a'][i]:+.2f} → {words['effect_b'][i]:+.2f} logits"
    verb = "speaks the other way" if change == "reversed" else f"is {change}"
    return f"'{word}' {verb} for {name}: {effects}"


def _outcome(row: Row) -> str:
    measure, name, a, b = row["measure"], row["class"], row["a"], row["b"]
    if measure in ("predicted share", "labelled share"):
        verb = measure.split()[0]
        if a == 0:
            return f"{_percent(b)} of documents are {verb} {name}, there were none"
        way = "more" if b > a else "fewer"
        return f"{_percent(abs(b / a - 1))} {way} documents are {verb} {name}"
    way = "rose" if b > a else "fell"
    of = "" if name == "*" else f" of {name}"
    if measure == "accuracy":
        return f"accuracy {way} from {_percent(a)} to {_percent(b)}"
    return f"the mean {measure}{of} {way} from {number(a, 3)} to {number(b, 3)}"


def _place(measure: str) -> tuple[float, int]:
    """Where an outcome is told: before words and layers, in the order of what matters, or after all."""
    return (1.0, _OUTCOMES.index(measure)) if measure in _OUTCOMES else (4.0, 0)


def _layer(row: Row) -> str:
    way = "rose" if row["b"] > row["a"] else "fell"
    of = "" if row["class"] == "*" else f" of {row['class']}"
    measure = row["measure"].replace("_", " ")
    return f"{measure}{of} at depth {row['depth']} {way} from {number(row['a'], 3)} to {number(row['b'], 3)}"


def _relative(row: Row) -> float:
    return abs(row["b"] / row["a"] - 1) if row["a"] else math.inf


def _or_inf(q: float) -> float:
    return math.inf if math.isnan(q) else q


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
