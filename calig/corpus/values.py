"""Values read as the types that `corpus.types` names: none is rounded, and one that does not fit is an error."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable

import pyarrow as pa
import pyarrow.types as pat

from calig.config.schema import ColumnType
from calig.corpus.json_types import is_exact
from calig.errors import InputError
from calig.rows import json_value

ARROW: dict[ColumnType, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"([+-]?[0-9]{1,30})(\.0*)?")
_SPECIAL = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_BOOLEAN = {"true": True, "false": False, "1": True, "0": False}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?)?(?:[.]([0-9]+))?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)


def is_decimal(text: str) -> bool:
    """Whether a text is a number as people and programs write it, without NaN and infinities."""
    return _DECIMAL.fullmatch(text) is not None


def converted(column: pa.ChunkedArray, kind: ColumnType, name: str, file: str, row: int) -> pa.ChunkedArray:
    """Return a column as the type that the configuration says.

    Parameters
    ----------
    column
        Text, or another type that a file has.
    kind
        What it is to be.
    name, file, row
        What it is called, where it is from, and the number of its first row there.

    Raises
    ------
    InputError
        A value does not fit; names the file, row and column.
    """
    if pat.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if kind == "text" and pat.is_nested(column.type):
        texts = [None if value is None else json_value(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if kind != "text" and (pat.is_string(column.type) or pat.is_large_string(column.type)):
        return _parsed(column, kind, name, file, row)
    try:
        return _same(column, ARROW[kind])
    except pa.ArrowException:
        for place in range(len(column)):
            try:
                _same(column.slice(place, 1), ARROW[kind])
            except pa.ArrowException as error:
                raise _misfit(str(column[place].as_py()), kind, name, file, row + place) from error
        raise


def _same(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Cast a column and back; an ArrowInvalid where that is not the same."""
    found = column.cast(kind)
    if pat.is_null(column.type):
        return found
    if pat.is_floating(kind) and pat.is_floating(column.type):  # NaN is not equal to itself
        return found
    if not pat.is_string(kind) and not found.cast(column.type).equals(column):
        raise pa.ArrowInvalid("another value")
    return found


def _parsed(column: pa.ChunkedArray, kind: ColumnType, name: str, file: str, row: int) -> pa.ChunkedArray:
    values: list[object] = []
    for place, text in enumerate(column.to_pylist()):
        try:
            values.append(None if text is None or not text.strip() else _PARSERS[kind](text.strip()))
        except (ValueError, OverflowError) as error:
            raise _misfit(text, kind, name, file, row + place) from error
    return pa.chunked_array([pa.array(values, ARROW[kind])])


def _misfit(value: str, kind: ColumnType, name: str, file: str, row: int) -> InputError:
    shown = value if len(value) <= 60 else f"{value[:59]}…"
    return InputError(
        f"{file}, row {row}: column {name!r} is {shown!r}, which does not fit corpus.types: {kind}: correct it, or "
        "choose another type; text holds everything"
    )


def _integer(text: str) -> int:
    found = _WHOLE.fullmatch(text)
    value = int(found[1]) if found else 2**63
    if not -(2**63) <= value < 2**63:
        raise ValueError(text)
    return value


def _number(text: str) -> float:
    if _SPECIAL.fullmatch(text):
        return float(text)
    value = float(text) if is_decimal(text) else float("inf")
    if not is_exact(text, value):
        raise ValueError(text)
    return value


def _boolean(text: str) -> bool:
    if text.lower() not in _BOOLEAN:
        raise ValueError(text)
    return _BOOLEAN[text.lower()]


def _date(text: str) -> dt.date:
    if not _DATE.fullmatch(text):
        raise ValueError(text)
    return dt.date.fromisoformat(text)


def _timestamp(text: str) -> dt.datetime:
    """Read an ISO 8601 time; one with a zone in UTC. ValueError where a part of a microsecond would be lost."""
    found = _TIME.fullmatch(text)
    if found is None or (found[3] is None and found[4]) or (found[2] is None and found[5]):
        raise ValueError(text)
    fraction = (found[4] or "").rstrip("0")
    if len(fraction) > 6:
        raise ValueError(text)
    moment = dt.datetime.fromisoformat(f"{found[1]}{found[2] or ''}")
    moment = moment.replace(microsecond=int(fraction.ljust(6, "0")))
    if found[5] and found[5] != "Z":
        sign = -1 if found[5][0] == "-" else 1
        hours, minutes = int(found[5][1:3]), int(found[5][-2:])
        moment -= sign * dt.timedelta(hours=hours, minutes=minutes)
    return moment


_PARSERS: dict[ColumnType, Callable[[str], object]] = {
    "text": str,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "timestamp": _timestamp,
}
