"""JSON Lines: one object per line, read twice, first for the types, then for the rows.

Neither DuckDB nor pyarrow reads them here: pyarrow refuses a column of mixed types and integers beyond 64 bits, and
DuckDB turns numbers beyond a double into other ones, without a word; neither says which line is too long before it is
held, nor what to do about lone surrogates.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, AnyStr, cast

import pyarrow as pa

from calig.corpus import json_types
from calig.corpus.source import (
    BATCH_BYTES,
    BATCH_ROWS,
    ROW_BYTES,
    Misfit,
    Rows,
    is_content,
    is_written,
)
from calig.errors import InputError

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
Row = dict[str, Any]


def schema(path: Path, limit: int | None) -> pa.Schema:
    """Return the columns of the first `limit` rows, with types of `json_types` that are not settled yet."""
    types: dict[str, pa.DataType] = {}
    for row, rows in _chunks(path):
        rows = rows if limit is None else rows[: max(0, limit - row + 1)]
        if not rows:
            break
        for name in dict.fromkeys(key for item in rows for key in item):
            try:
                found = json_types.type_of(item.get(name) for item in rows)
                types[name] = json_types.merge(types.get(name, pa.null()), found)
            except RecursionError as error:
                raise InputError(
                    f"{path}, from row {row}: column {name!r} is nested too deep; flatten it"
                ) from error
    return pa.schema(list(types.items()))


def read(path: Path, schema: pa.Schema) -> Iterator[Rows]:
    """Give rows with the columns of `schema`; an absent key is null, and so is a value that does not fit.

    Raises
    ------
    InputError
        A line is no JSON object, or what the model reads is not text.
    """
    for row, rows in _chunks(path):
        arrays: list[pa.Array] = []
        misfits: list[Misfit] = []
        for field in schema:
            values = [item.get(field.name) for item in rows]
            if is_written(field):
                arrays.append(pa.array(map(json_types.written, values), pa.string()))
                continue
            array, places = json_types.column(values, field.type)
            if places and is_content(field):
                shown = _shown(values[places[0]])
                raise InputError(
                    f"{path}, row {row + places[0]}: column {field.name!r} is {shown}, not text: make it text"
                )
            arrays.append(array)
            misfits += [Misfit(field.name, row + place, _shown(values[place])) for place in places]
        fields = [pa.field(field.name, array.type) for field, array in zip(schema, arrays, strict=True)]
        yield Rows(row, pa.Table.from_arrays(arrays, schema=pa.schema(fields)), misfits)


def open_binary(path: Path) -> IO[bytes]:
    """Open a file as bytes, uncompressed where its name says that it is compressed."""
    ending = path.suffix.lower()
    if ending == ".zst":
        return cast(IO[bytes], io.BufferedReader(pa.CompressedInputStream(path.open("rb"), "zstd")))
    if ending in _OPENERS:
        return cast(IO[bytes], _OPENERS[ending](path, "rb"))
    return path.open("rb")


def bounded(stream: IO[AnyStr], path: Path) -> Iterator[AnyStr]:
    """Give the lines of a stream; an InputError where one is longer than ROW_BYTES, before it is held."""
    number = 1
    while line := stream.readline(ROW_BYTES + 1):
        if len(line) > ROW_BYTES:
            raise InputError(
                f"{path}, line {number}: is longer than {ROW_BYTES // 2**20} MB: cut or leave out what is so long"
            )
        yield line
        number += 1


def _chunks(path: Path) -> Iterator[tuple[int, list[Row]]]:
    """Give (number of the first row, rows) in portions bounded by rows and by bytes."""
    first, size = 1, 0
    rows: list[Row] = []
    with open_binary(path) as stream:
        for number, line in enumerate(bounded(stream, path), start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            rows.append(_parse(path, number, line))
            size += len(line)
            if len(rows) >= BATCH_ROWS or size >= BATCH_BYTES:
                yield first, rows
                first, size, rows = first + len(rows), 0, []
    if rows:
        yield first, rows


def _parse(path: Path, number: int, line: bytes) -> Row:
    try:
        row = _decoder.decode(line.decode("utf-8").strip())
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {number}: not JSON: {error.msg} at character {error.colno}; correct it"
        ) from error
    except _TwiceError as error:
        raise InputError(
            f"{path}, line {number}: has the key {str(error)!r} twice in one object: keep one"
        ) from error
    except RecursionError as error:
        raise InputError(f"{path}, line {number}: nested too deep; flatten it") from error
    if not isinstance(row, dict):
        raise InputError(f"{path}, line {number}: is no JSON object; write one object per line")
    return _mend(row) if _ESCAPED_SURROGATE.search(line) else row


class _TwiceError(Exception):
    """An object has a key twice."""


def _object(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return row


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=json_types.integer, parse_float=json_types.number
)


def _mend(value: Any) -> Any:
    """Replace lone surrogates, which are no characters and which UTF-8 cannot hold, by U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mend(item) for item in value]
    if isinstance(value, dict):
        return {_mend(key): _mend(item) for key, item in value.items()}
    return value


def _shown(value: object) -> str:
    text = json_types.dump(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
