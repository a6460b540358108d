"""How rows are written: numbers in tables for people, CSV and JSON for programs.

Nothing is lost on the way: two columns of one name stay two, two different numbers look different, NULL and an empty
text differ in CSV, and every answer in JSON can be read by a strict parser.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

DIGITS = 4
"""Significant digits of a number in a table, where these tell it apart."""
ALL_DIGITS = 17
"""Significant digits that tell every two floats apart."""
IN_FULL = 1e15
"""The whole part of a smaller number is written out."""


def unique_names(names: Sequence[str]) -> list[str]:
    """Make names unique: of text, text the second becomes text_1, or what comes next that is free."""
    taken, given = set(names), set()
    unique = []
    for name in names:
        chosen, count = name, 0
        while chosen in given or (count and chosen in taken):
            count += 1
            chosen = f"{name}_{count}"
        given.add(chosen)
        unique.append(chosen)
    return unique


def number(value: float, digits: int = DIGITS) -> str:
    """Write a number to at least `digits` significant digits, its whole part in full and one digit after it.

    99999.4 is 99999.4 and 0.123456 is 0.1235; only numbers from 1e15 on and below 1e-4 have an exponent.
    """
    size = abs(value)
    if math.isfinite(value) and 1 <= size < IN_FULL:
        digits = max(digits, math.floor(math.log10(size)) + 2)
    return f"{value:.{digits}g}"


def numbers(values: Sequence[float]) -> list[str]:
    """Write the numbers of one column so that different ones look different: the like get more digits."""
    texts = [number(value) for value in values]
    for digits in range(DIGITS + 1, ALL_DIGITS + 1):
        meant: dict[str, set[float]] = {}
        for text, value in zip(texts, values, strict=True):
            meant.setdefault(text, set()).add(value)
        if all(len(same) == 1 for same in meant.values()):
            break
        texts = [
            number(value, digits) if len(meant[text]) > 1 and not math.isnan(value) else text
            for text, value in zip(texts, values, strict=True)
        ]
    return texts


def plural(count: int, noun: str) -> str:
    """A count and its noun: 1 document, 1,204 documents."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def cell(value: Any) -> str:
    """Write a value on one line for people, or in CSV: NULL is empty, a nested value is JSON."""
    if value is None:
        return ""
    if isinstance(value, bool | list | tuple | dict):
        return json_value(value)
    return str(value)


def csv_lines(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Give the lines of a CSV, the header first, each ending in a line feed; NULL is empty, an empty text is ""."""
    yield ",".join(map(_quoted, columns)) + "\n"
    for row in rows:
        yield ",".join("" if value is None else _quoted(cell(value)) for value in row) + "\n"


def json_lines(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Give the lines of a JSON array that holds an object per row; the names must be unique."""
    yield "[\n"
    for position, row in enumerate(rows):
        text = json_value(dict(zip(columns, row, strict=True)))
        yield f" {text}{',' if position < len(rows) - 1 else ''}\n"
    yield "]\n"


def json_value(value: Any) -> str:
    """Write a value as JSON: NaN and infinities are null, decimals and integers numbers with all their digits."""
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "null"
    if isinstance(value, Decimal):
        return f"{value:f}" if value.is_finite() else "null"
    if isinstance(value, Mapping):
        items = (
            f"{json.dumps(_key(key), ensure_ascii=False)}: {json_value(one)}" for key, one in value.items()
        )
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(json_value, value)) + "]"
    known = value if value is None or isinstance(value, bool | int | str) else str(value)
    return json.dumps(known, ensure_ascii=False)


def finite(value: Any) -> Any:
    """Return a JSON-ready value with null in place of NaN and infinities, which are not JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return value


def _key(key: Any) -> str:
    return key if isinstance(key, str) else json_value(key)


def _quoted(text: str) -> str:
    """Quote a field of CSV that needs it: an empty text, and one with a comma, a quote or a line break."""
    plain = text and not any(sign in text for sign in ',"\r\n')
    return text if plain else '"' + text.replace('"', '""') + '"'
