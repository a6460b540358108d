"""Columns in the names of folders, as Hive lays tables out: `dt=2026-11-24/lang=en/part-0.parquet`.

They are read as pyarrow's datasets read them where all is text: a value is decoded as in URLs;
`__HIVE_DEFAULT_PARTITION__` is null, and so is a key that a file's folders lack. Where the files have a column of the
same name, the folder's value stands, in the type that the column has there; a value that does not fit it is an error.
So is a folder of the name of a column that the model reads: all its documents would be the folder's value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from calig.corpus.json_types import JSON
from calig.corpus.source import conform, is_written
from calig.errors import InputError

_NULL = "__HIVE_DEFAULT_PARTITION__"


class Partitions:
    """The folders' values of some files, `columns` being their names and types; `content` are those the model reads."""

    def __init__(self, paths: Sequence[Path], content: Collection[str] = ()) -> None:
        self._content = content
        self.replaced: dict[str, None] = {}
        """Columns of the files in whose place the folders' values stand."""
        self._values = {path: _pairs(path) for path in paths}
        names = dict.fromkeys(name for pairs in self._values.values() for name in pairs)
        self.columns = pa.schema([(name, pa.string()) for name in names])

    def added(self, schema: pa.Schema, path: Path) -> pa.Schema:
        """Return a file's schema with the folders' columns; those that it has by itself in their types.

        Raises
        ------
        InputError
            The file has a column of the name of one of its folders, and the folder's value does not fit its type, or
            the column is what the model reads.
        """
        for field in self.columns:
            if field.name not in schema.names:
                schema = schema.append(field)
                continue
            if field.name in self._content and field.name in self._values[path]:
                raise InputError(
                    f"{path}: the folder {field.name}=… gives a column {field.name!r}, which the file has too, and "
                    "which the model reads: rename the folder, or the column"
                )
            if field.name in self._values[path]:
                self.replaced[field.name] = None
            position = schema.names.index(field.name)
            own = schema.field(position).type
            own = own.value_type if pa.types.is_dictionary(own) else own
            own = pa.string() if pa.types.is_null(own) or own.equals(JSON) else own
            self._value(path, field.name, own)
            schema = schema.set(position, pa.field(field.name, own))
        return schema

    def fill(self, table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
        """Return a file's rows with the columns of `schema`, those of folders filled with their values."""
        columns = dict(zip(table.column_names, table.columns, strict=True))
        for field in schema:
            if field.name in self.columns.names:
                kind = pa.string() if is_written(field) else field.type
                columns[field.name] = pa.repeat(self._value(path, field.name, kind), table.num_rows)
        return conform(pa.table(columns), schema, str(path))

    def _value(self, path: Path, name: str, kind: pa.DataType) -> pa.Scalar:
        value = self._values[path].get(name)
        try:
            return pa.array([value], pa.string()).cast(kind)[0]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"{path}: column {name!r} is {kind}, which {value!r} of the folder {name}=… is not: rename the folder "
                "or the column"
            ) from error

    def within(self, schema: pa.Schema) -> pa.Schema:
        """Return the columns of `schema` that are to be read from the files."""
        return pa.schema([field for field in schema if field.name not in self.columns.names])


def _pairs(path: Path) -> Mapping[str, str | None]:
    """Return the names and values in a file's folders, in their order; the innermost of a name counts."""
    pairs: dict[str, str | None] = {}
    for part in path.parts[:-1]:
        name, equals, value = part.partition("=")
        if name and equals:
            pairs[name] = None if value == _NULL else unquote(value)
    return pairs
