"""The values of JSON as columns: which type holds all of them, and whether a value fits a type that is fixed.

A type here is one of Arrow's. Two of them are marks: `JSON` is the type of a column whose values have no type in
common, and which is kept as JSON text; `LARGE` is that of integers that a double does not hold, until all files are
read (`settled`). A number that neither an integer of 64 bits nor a double holds as it is written is a `Digits`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.types as pat

JSON = pa.json_()
LARGE = pa.decimal128(19)
_NULL, _BOOLEAN, _INTEGER, _NUMBER, _TEXT = pa.null(), pa.bool_(), pa.int64(), pa.float64(), pa.string()
_EXACT = 2**53
_SHORT = 15
"""A decimal number of so many digits is told apart from all others by the double next to it."""


class Written(float):
    """A number that Python would write otherwise than the file does, such as 3.10."""

    __slots__ = ("text",)
    text: str


class Digits:
    """A number that neither an integer of 64 bits nor a double holds: its digits."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


_SCALARS = {type(None): _NULL, bool: _BOOLEAN, float: _NUMBER, Written: _NUMBER, str: _TEXT}


class Misfit(Exception):  # noqa: N818
    """A value does not fit the type of its column."""


def integer(text: str) -> int | Digits:
    """Read an integer of JSON."""
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        return Digits(text)
    return int(text)


def number(text: str) -> float | Digits:
    """Read a number of JSON that is not written as an integer."""
    value = float(text)
    if repr(value) == text:
        return value
    if not is_exact(text, value):
        return Digits(text)
    written = Written(value)
    written.text = text
    return written


def is_exact(text: str, value: float) -> bool:
    """Whether a double is the decimal number that a text says, or is written as that number."""
    if len(text) <= _SHORT and value not in (0.0, float("inf"), float("-inf")):
        return True
    if value in (float("inf"), float("-inf")):
        return False
    try:
        return Decimal(text) in (Decimal(value), Decimal(repr(value)))
    except ArithmeticError:  # an exponent beyond those of Decimal
        return False


def type_of(values: Iterable[object]) -> pa.DataType:
    """Return the type that holds all these values."""
    values = list(values)
    found = set(map(type, values)) - {type(None)}
    if not found:
        return _NULL
    if found == {str}:
        return _TEXT
    if found == {bool}:
        return _BOOLEAN
    if found <= {float, Written}:
        return _NUMBER
    if found == {int}:
        whole = [value for value in values if isinstance(value, int)]
        return _INTEGER if max(map(abs, whole)) <= _EXACT else LARGE
    met = _NULL
    for value in values:
        one = _type_of(value)
        met = met if one is met or one.equals(met) else merge(met, one)
        if met.equals(JSON):
            break
    return met


def _type_of(value: object) -> pa.DataType:
    known = _SCALARS.get(type(value))
    if known is not None:
        return known
    if isinstance(value, list):
        inner = type_of(value)
        return JSON if inner.equals(JSON) else pa.list_(inner)
    if isinstance(value, dict):
        return _struct(tuple((name, _type_of(one)) for name, one in value.items()))
    if isinstance(value, int):
        return _INTEGER if abs(value) <= _EXACT else LARGE
    return JSON


@lru_cache(maxsize=256)
def _struct(fields: tuple[tuple[str, pa.DataType], ...]) -> pa.DataType:
    return JSON if any(kind.equals(JSON) for _, kind in fields) else pa.struct(fields)


def merge(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Return the type that holds the values of both."""
    if one.equals(other) or pat.is_null(other):
        return one
    if pat.is_null(one):
        return other
    pair = {one, other}
    if pair == {_INTEGER, LARGE}:
        return LARGE
    if pair == {_INTEGER, _NUMBER}:
        return _NUMBER
    if pat.is_list(one) and pat.is_list(other):
        inner = merge(one.value_type, other.value_type)
        return JSON if inner.equals(JSON) else pa.list_(inner)
    if pat.is_struct(one) and pat.is_struct(other):
        fields = {field.name: field.type for field in one}
        for field in other:
            fields[field.name] = merge(fields.get(field.name, _NULL), field.type)
        return JSON if any(kind.equals(JSON) for kind in fields.values()) else pa.struct(list(fields.items()))
    return JSON


def settled(kind: pa.DataType) -> pa.DataType:
    """Return the type that a column gets when all values are known; null is left to be found out later.

    Lists and objects of which something is not known yet, such as that of a list that is always empty, are JSON text:
    it holds whatever comes.
    """
    return kind if pat.is_null(kind) else (_settled(kind) or JSON)


def _settled(kind: pa.DataType) -> pa.DataType | None:
    if pat.is_list(kind):
        inner = _settled(kind.value_type)
        return None if inner is None else pa.list_(inner)
    if pat.is_struct(kind):
        fields = [(field.name, _settled(field.type)) for field in kind]
        return pa.struct(fields) if fields and all(inner is not None for _, inner in fields) else None
    if kind.equals(LARGE):
        return _INTEGER
    return None if pat.is_null(kind) else kind


def column(values: Sequence[object], kind: pa.DataType) -> tuple[pa.Array, list[int]]:
    """Return the values as a column of a settled type, and the places of those that do not fit, null there."""
    if kind.equals(JSON):
        return pa.array([None if value is None else dump(value) for value in values], _TEXT), []
    if _holds(kind, type_of(values)):
        return pa.array(values, kind), []
    fitted: list[object] = []
    misfits = []
    for place, value in enumerate(values):
        try:
            fitted.append(_fit(value, kind))
        except Misfit:
            fitted.append(None)
            misfits.append(place)
    return pa.array(fitted, kind), misfits


def _holds(kind: pa.DataType, values: pa.DataType) -> bool:
    """Whether a type holds all values of another as they are."""
    if pat.is_null(values) or kind.equals(values) or (kind.equals(_INTEGER) and values.equals(LARGE)):
        return True
    return bool(kind.equals(_NUMBER) and values.equals(_INTEGER))


def _fit(value: Any, kind: pa.DataType) -> object:
    if value is None:
        return None
    if pat.is_list(kind) and isinstance(value, list):
        return [_fit(item, kind.value_type) for item in value]
    if pat.is_struct(kind) and isinstance(value, dict):
        fields = {field.name: field.type for field in kind}
        if any(name not in fields and item is not None for name, item in value.items()):
            raise Misfit
        return {name: _fit(value.get(name), inner) for name, inner in fields.items()}
    if isinstance(value, bool):
        fits = kind.equals(_BOOLEAN)
    elif isinstance(value, int):
        fits = kind.equals(_INTEGER) or (kind.equals(_NUMBER) and int(float(value)) == value)
        value = float(value) if kind.equals(_NUMBER) else value
    elif isinstance(value, float):
        whole = kind.equals(_INTEGER) and value.is_integer() and abs(value) <= _EXACT
        fits = kind.equals(_NUMBER) or whole
        value = int(value) if whole else value
    else:
        fits = isinstance(value, str) and kind.equals(_TEXT)
    if not fits:
        raise Misfit
    return value


def written(value: object) -> str | None:
    """Return a value as text: text as it is, anything else as JSON."""
    return value if value is None or isinstance(value, str) else dump(value)


def dump(value: object) -> str:
    """Return a value as JSON text, its numbers as the file has them; NaN and infinities as text."""
    if isinstance(value, Written | Digits):
        return value.text
    if isinstance(value, list):
        return f"[{','.join(map(dump, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{dump(name)}:{dump(item)}" for name, item in value.items()) + "}"
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return json.dumps(json.dumps(value))
    return json.dumps(value, ensure_ascii=False)
