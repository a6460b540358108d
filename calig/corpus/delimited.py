"""CSV: comma-separated (.tsv: by tabs), quoted with ", a header first; every value is text, as it is written.

An empty field is null, and "" an empty text. Python's csv finds where rows end and what is wrong with one, and pyarrow
makes them columns. Alone, pyarrow takes a quotation mark that is never closed for the end of the file, and takes text
that follows a quoted field; DuckDB drops such rows, and refuses files with line ends of two kinds; csv does not tell
an empty field from "".
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv as pacsv

from calig.corpus.lines import bounded, open_binary
from calig.corpus.source import BATCH_BYTES, BATCH_ROWS, ROW_BYTES, Rows
from calig.errors import InputError

csv.field_size_limit(ROW_BYTES)  # a document may be longer than the module's default of 128 KiB


def schema(path: Path, limit: int | None) -> pa.Schema:
    """Return the header's columns: text."""
    with _open_text(path) as stream:
        return pa.schema([(name, pa.string()) for name in _Reader(stream, path).header])


def read(path: Path, schema: pa.Schema) -> Iterator[Rows]:
    """Give rows with the columns of `schema`, as text."""
    with _open_text(path) as stream:
        reader = _Reader(stream, path)
        for first, rows, count in reader.chunks():
            table = _table(rows, reader.header, schema.names, delimiter_of(path))
            if table.num_rows != count:
                raise InputError(f"{path}, from row {first}: not CSV that can be told from something else")
            yield Rows(first, table)


def delimiter_of(path: Path) -> str:
    """Return what lies between the values of a file, by its name: tabs in .tsv, compressed or not, else commas."""
    return "\t" if ".tsv" in map(str.lower, path.suffixes[-2:]) else ","


class _Reader:
    """The rows of a file in portions, as they are written."""

    def __init__(self, stream: IO[str], path: Path) -> None:
        self.path = path
        self._held: list[str] = []
        self._size = 0
        self._reader = csv.reader(self._lines(stream), strict=True, delimiter=delimiter_of(path))
        header = self._next()
        if header is None:
            raise InputError(f"{path} is empty: its first line must name the columns")
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise InputError(f"{path} has two columns named {twice!r}: rename one")
        self.header = header
        self._held.clear()

    def chunks(self) -> Iterator[tuple[int, list[str], int]]:
        """Give (number of the first row, lines, rows)."""
        first, count, size = 1, 0, 0
        while (fields := self._next()) is not None:
            if len(fields) != len(self.header):
                raise InputError(
                    f"{self.path}, line {self._reader.line_num}: {len(fields)} fields, header has "
                    f'{len(self.header)}: put "…" around values with commas or line breaks'
                )
            count += 1
            size += sum(map(len, fields))
            if count >= BATCH_ROWS or size >= BATCH_BYTES:
                yield first, self._held, count
                first, count, size, self._held = first + count, 0, 0, []
        if count:
            yield first, self._held, count

    def _next(self) -> list[str] | None:
        """Return the fields of the next row that is not blank."""
        try:
            while (fields := next(self._reader, None)) is not None:
                self._size = 0
                if fields:
                    return fields
                self._held.pop()
        except csv.Error as error:
            raise InputError(
                f'{self.path}, line {self._reader.line_num}: not CSV: {error}; put "…" around values, "" for " inside'
            ) from error
        return None

    def _lines(self, stream: IO[str]) -> Iterator[str]:
        """Give the lines, and hold them; `_size` counts the characters of a row, which may be of many lines."""
        for line in bounded(stream, self.path):
            self._size += len(line)
            if self._size > ROW_BYTES:
                raise InputError(
                    f"{self.path}, line {self._reader.line_num}: one row is longer than {ROW_BYTES // 2**20} MB: look "
                    'for a missing ", or cut what is so long'
                )
            self._held.append(line)
            yield line


def _table(rows: list[str], header: list[str], names: list[str], delimiter: str) -> pa.Table:
    data = "".join(rows).encode()
    kept = [name for name in names if name in header]
    places = [str(place) for place in range(len(header))]  # names may be empty
    table = pacsv.read_csv(
        pa.BufferReader(data),
        read_options=pacsv.ReadOptions(column_names=places, block_size=len(data) + 1, use_threads=False),
        parse_options=pacsv.ParseOptions(newlines_in_values=True, delimiter=delimiter),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(places, pa.string()),
            include_columns=[str(header.index(name)) for name in kept] or places[:1],
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    columns = {name: table.column(place) for place, name in enumerate(kept)}
    absent = pa.nulls(table.num_rows, pa.string())
    return pa.table([columns.get(name, absent) for name in names], names=names)


def _open_text(path: Path) -> IO[str]:
    return io.TextIOWrapper(open_binary(path), encoding="utf-8-sig", newline="")
