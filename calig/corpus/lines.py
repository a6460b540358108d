"""JSON Lines: one object per line, read twice, first for the types, then for the rows."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, AnyStr, cast

import pyarrow as pa

from calig.corpus.source import BATCH_BYTES, BATCH_ROWS, ROW_BYTES, unify
from calig.errors import InputError

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NO_ARROW = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
Row = dict[str, Any]


def schema(path: Path, limit: int | None) -> pa.Schema:
    """Return the columns of the first `limit` rows and types that hold all their values."""
    types: dict[str, pa.DataType] = {}
    for row, rows in _chunks(path):
        rows = rows if limit is None else rows[: max(0, limit - row + 1)]
        if not rows:
            break
        for name in dict.fromkeys(key for item in rows for key in item):
            values = [item.get(name) for item in rows]
            try:
                met = unify(types.get(name, pa.null()), pa.array(values).type)
            except _NO_ARROW:
                met = None
            if met is None:
                raise InputError(_odd_value(path, name, values, row, types.get(name, pa.null())))
            types[name] = met
    return pa.schema(list(types.items()))


def read(path: Path, schema: pa.Schema) -> Iterator[tuple[int, pa.Table]]:
    """Give (number of the first row, table) with the columns of `schema`; an absent key is null."""
    for row, rows in _chunks(path):
        arrays = []
        for field in schema:
            values = [item.get(field.name) for item in rows]
            try:
                arrays.append(pa.array(values, field.type))
            except _NO_ARROW as error:
                raise InputError(_odd_value(path, field.name, values, row, field.type)) from error
        yield row, pa.Table.from_arrays(arrays, schema=schema)


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
        row = json.loads(line.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {number}: not JSON: {error.msg} at character {error.colno}; correct it"
        ) from error
    except RecursionError as error:
        raise InputError(f"{path}, line {number}: nested too deep; flatten it") from error
    if not isinstance(row, dict):
        raise InputError(f"{path}, line {number}: is no JSON object; write one object per line")
    return _mend(row) if _ESCAPED_SURROGATE.search(line) else row


def _mend(value: Any) -> Any:
    """Replace lone surrogates, which are no characters and which UTF-8 cannot hold, by U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mend(item) for item in value]
    if isinstance(value, dict):
        return {_mend(key): _mend(item) for key, item in value.items()}
    return value


def _odd_value(path: Path, name: str, values: Sequence[object], row: int, kind: pa.DataType) -> str:
    """Say which row first has a value that the type of the rows before it cannot hold."""
    for offset, value in enumerate(values):
        try:
            met = unify(kind, pa.array([value]).type)
        except _NO_ARROW:
            met = None
        if met is None:
            shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:59] + "…"
            before = "" if pa.types.is_null(kind) else f", but {kind} in the rows before it"
            return f"{path}, row {row + offset}: column {name!r} is {shown}{before}: make the column one type"
        kind = met
    return f"{path}, from row {row}: column {name!r} has values of types that do not mix: make it one type"
