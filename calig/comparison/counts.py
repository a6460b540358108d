"""How many things changed: a word, a measure at a depth and an outcome count once, in however many classes they did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from calig.comparison.rows import Row

FAMILIES = {
    "outcomes": ("outcome", "outcomes"),
    "words": ("word", "words"),
    "layers": ("measure of the layer profile", "measures of the layer profile"),
}
"""The families of tests in the order that they are told in, and what one and several things of each are called."""

THINGS = {"outcomes": ("measure",), "words": ("word",), "layers": ("measure", "depth")}
"""Columns that say which thing a row of a family is about; the others say of which class."""


def distinct(columns: Mapping[str, Any], family: str, chosen: Iterable[Any]) -> int:
    """How many things of a family the chosen rows are about.

    Parameters
    ----------
    columns
        The family's table, column → values.
    family
        One of `FAMILIES`.
    chosen
        Of each row, whether it is.
    """
    named = zip(*(columns.get(name, ()) for name in THINGS[family]), strict=True)
    return len({thing for thing, own in zip(named, chosen, strict=True) if own})


def listed(counts: Mapping[str, int | None]) -> str:
    """Counts by family in words: `2 outcomes, 1 word and 3 measures of the layer profile`; empty for none."""
    return in_a_row(
        [counted(count, names) for family, names in FAMILIES.items() if (count := counts.get(family) or 0)]
    )


def counted(count: int, names: tuple[str, str]) -> str:
    """A count and what is counted, of the names for one and for several: `1 word`, `2,064 words`."""
    return f"{count:,} {names[count != 1]}"


def in_a_row(parts: Sequence[str]) -> str:
    """Parts of a sentence one after another: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def of_kind(row: Row, kind: str) -> dict[str, int | None]:
    """The counts by family that a row of `comparisons` has of a kind: changed, tested or untested."""
    return {family: row.get(f"{family}_{kind}") for family in FAMILIES}


def tested(row: Row) -> str:
    """How much a row of `comparisons` says was tested, and what was not, in words."""
    counts = of_kind(row, "tested")
    named = {"outcomes": "of outcomes", "words": "of words", "layers": "of the layer profile"}
    parts = [f"{counts[family] or 0} tests {name}" for family, name in named.items()]
    untested = listed(of_kind(row, "untested"))
    missing = f"; too few documents to test {untested}" if untested else ""
    return f"{', '.join(parts)}{missing}"
