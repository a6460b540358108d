"""CSV: comma-separated (.tsv: by tabs), quoted with ", a header first; types are inferred over all rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from calig.corpus.lines import bounded, open_binary
from calig.corpus.source import BATCH_BYTES, BATCH_ROWS, ROW_BYTES
from calig.errors import InputError

_TYPES = (
    pa.int64(),
    pa.float64(),
    pa.bool_(),
    pa.date32(),
    pa.timestamp("us"),
    pa.timestamp("us", "UTC"),
)
_LEADING_ZERO = r"^[+-]?0[0-9]"
csv.field_size_limit(ROW_BYTES)  # a document may be longer than the module's default of 128 KiB


def schema(path: Path, limit: int | None) -> pa.Schema:
    """Return the header's columns, each with the first type that all its values among `limit` rows have.

    An empty field is null; numbers with leading zeros are text; a column without values has the null type.
    """
    candidates: dict[str, list[pa.DataType]] = {}
    filled: set[str] = set()
    for row, columns in _chunks(path):
        keep = None if limit is None else max(0, limit - row + 1)
        for name, values in columns.items():
            array = _strings(values[:keep])
            viable = candidates.setdefault(name, list(_TYPES))
            if array.null_count < len(array):
                filled.add(name)
                candidates[name] = [kind for kind in viable if _fits(array, kind)]
        if keep is not None and keep <= len(next(iter(columns.values()))):
            break
    return pa.schema(
        [
            (name, (viable or [pa.string()])[0] if name in filled else pa.null())
            for name, viable in candidates.items()
        ]
    )


def read(path: Path, schema: pa.Schema) -> Iterator[tuple[int, pa.Table]]:
    """Give (number of the first row, table) with the columns of `schema`; empty fields are null, or ""."""
    for row, columns in _chunks(path):
        length = len(next(iter(columns.values())))
        if not length:
            continue
        arrays = []
        for field in schema:
            values = columns.get(field.name)
            if values is None:
                arrays.append(pa.nulls(length, field.type))
            elif pa.types.is_string(field.type):
                arrays.append(pa.array(values, pa.string()))
            else:
                arrays.append(_strings(values).cast(field.type))
        yield row, pa.Table.from_arrays(arrays, schema=schema)


def _strings(values: list[str]) -> pa.Array:
    return pa.array([value or None for value in values], pa.string())


def _fits(array: pa.Array, kind: pa.DataType) -> bool:
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if numeric and pc.any(pc.match_substring_regex(array, _LEADING_ZERO)).as_py():
        return False
    try:
        array.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _chunks(path: Path) -> Iterator[tuple[int, dict[str, list[str]]]]:
    """Give (number of the first row, values by column); the first portion is there even without rows."""
    held = 0  # characters of the row that is being read, which may be of many lines

    def counted(stream: IO[str]) -> Iterator[str]:
        nonlocal held
        for line in bounded(stream, path):
            held += len(line)
            if held > ROW_BYTES:
                raise InputError(
                    f"{path}, line {reader.line_num}: one row is longer than {ROW_BYTES // 2**20} MB: look for a "
                    'missing ", or cut what is so long'
                )
            yield line

    with _open_text(path) as stream:
        delimiter = "\t" if ".tsv" in map(str.lower, path.suffixes[-2:]) else ","
        reader = csv.reader(counted(stream), strict=True, delimiter=delimiter)
        try:
            header = next((fields for fields in reader if fields), None)
            if header is None:
                raise InputError(f"{path} is empty: its first line must name the columns")
            if len(set(header)) < len(header):
                twice = next(name for name in header if header.count(name) > 1)
                raise InputError(f"{path} has two columns named {twice!r}: rename one")
            first, size = 1, 0
            rows: list[list[str]] = []
            for fields in reader:
                held = 0
                if not fields:
                    continue
                if len(fields) != len(header):
                    raise InputError(
                        f"{path}, line {reader.line_num}: {len(fields)} fields, header has {len(header)}: "
                        'put "…" around values with commas or line breaks'
                    )
                rows.append(fields)
                size += sum(map(len, fields))
                if len(rows) >= BATCH_ROWS or size >= BATCH_BYTES:
                    yield first, _columns(header, rows)
                    first, size, rows = first + len(rows), 0, []
            if rows or first == 1:
                yield first, _columns(header, rows)
        except csv.Error as error:
            raise InputError(
                f'{path}, line {reader.line_num}: not CSV: {error}; put "…" around values, "" for " inside'
            ) from error


def _columns(header: list[str], rows: list[list[str]]) -> dict[str, list[str]]:
    return {name: [row[index] for row in rows] for index, name in enumerate(header)}


def _open_text(path: Path) -> IO[str]:
    return io.TextIOWrapper(open_binary(path), encoding="utf-8-sig", newline="")
