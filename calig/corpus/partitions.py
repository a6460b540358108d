"""Columns in the names of folders, as Hive lays tables out: `dt=2026-11-24/lang=en/part-0.parquet`.

They are read as pyarrow's datasets read them: a value is decoded as in URLs; `__HIVE_DEFAULT_PARTITION__` is null, and
so is a key that a file's folders lack; whole numbers of 32 bits in all files make a column of integers, all else text.
Where the files have a column of the same name and kind, the folder's value stands; of another kind, it is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from calig.corpus.source import conform, unify
from calig.errors import InputError

_NULL = "__HIVE_DEFAULT_PARTITION__"


class Partitions:
    """The folders' values of some files, `columns` being their names and types."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._values = {path: _pairs(path) for path in paths}
        names = dict.fromkeys(name for pairs in self._values.values() for name in pairs)
        self.columns = pa.schema([(name, self._type(name)) for name in names])

    def _type(self, name: str) -> pa.DataType:
        given = [pairs.get(name) for pairs in self._values.values()]
        try:
            pa.array(given, pa.string()).cast(pa.int32())
        except pa.ArrowInvalid:
            return pa.string()
        return pa.int32() if any(value is not None for value in given) else pa.string()

    def added(self, schema: pa.Schema, path: Path, textual: bool) -> pa.Schema:
        """Return a file's schema with the folders' columns; those that it has by itself in their types.

        Raises
        ------
        InputError
            The file has a column of the name of one of its folders, and its values are of another kind.
        """
        for field in self.columns:
            if field.name not in schema.names:
                schema = schema.append(field)
                continue
            position = schema.names.index(field.name)
            own = schema.field(position).type
            own = own.value_type if pa.types.is_dictionary(own) else own
            kind = pa.string() if textual else unify(own, field.type)
            if kind is None:
                raise InputError(
                    f"{path}: column {field.name!r} is {own}, but the folder {field.name}=… makes it {field.type}: "
                    "rename the folder or the column"
                )
            schema = schema.set(position, pa.field(field.name, kind))
        return schema

    def fill(self, table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
        """Return a file's rows with the columns of `schema`, those of folders filled with their values."""
        columns = dict(zip(table.column_names, table.columns, strict=True))
        for field in self.columns:
            if field.name in schema.names:
                value = pa.array([self._values[path].get(field.name)], pa.string()).cast(field.type)
                columns[field.name] = pa.repeat(value[0], table.num_rows)
        return conform(pa.table(columns), schema, str(path))

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
