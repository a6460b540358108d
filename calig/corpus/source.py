"""What every kind of source gives: named files with schemas, read as batches of one schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as pat

from calig.corpus.columns import cast
from calig.errors import InputError

BATCH_ROWS = 2_000
BATCH_BYTES = 16 * 2**20
ROW_BYTES = 64 * 2**20
"""A row of more is refused: files of strangers may have been made to fill the memory of whoever reads them."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Successive rows of one file; `row` is the number of the first, counted from 1 in that file.

    `folder` is where the paths in it start, None if it is not on this machine; `reach` is the folder (resolved) that
    they, and links, must not lead out of, None where there are no paths.
    """

    table: pa.Table
    file: str
    row: int
    folder: Path | None = None
    reach: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A corpus that can be read.

    Attributes
    ----------
    name
        As the configuration names it.
    schemas
        (file, its schema), in reading order; one entry for a hub dataset.
    schema
        All columns of all files, with types that hold them all.
    textual
        Whether the format has no types but text (CSV), so that those in `schema` are inferred.
    label_names
        Names of the label column's class indices, where the source declares them.
    read
        Gives the batches; asked for a schema of some of the columns, it may leave the others unread.
    id, image
        Of image files: the columns that name the documents, where the user names none, and hold the images.
    left_out
        Files beside those read, as `calig.corpus.left_out.LeftOut.to_json` gives them; None where a source is no files.
    """

    name: str
    schemas: Sequence[tuple[str, pa.Schema]]
    schema: pa.Schema
    textual: bool
    label_names: Sequence[str] | None
    read: Callable[[pa.Schema], Iterator[Batch]]
    id: str | None = None
    image: str | None = None
    left_out: Mapping[str, Mapping[str, Any]] | None = None


def first_rows(batches: Iterator[Batch], limit: int | None) -> Iterator[Batch]:
    """Give the batches up to `limit` rows."""
    left = limit
    for batch in batches:
        yield batch if left is None else replace(batch, table=batch.table.slice(0, left))
        if left is not None:
            left -= batch.table.num_rows
            if left <= 0:
                return


def merge_schemas(schemas: Sequence[tuple[str, pa.Schema]], textual: bool = False) -> pa.Schema:
    """Return one schema that holds all: integers widen, integers become floats, nulls become anything.

    Types that do not meet become text where the format is textual, else an InputError names the file.
    """
    types: dict[str, pa.DataType] = {}
    for file, schema in schemas:
        if len(set(schema.names)) < len(schema.names):
            twice = next(name for name in schema.names if schema.names.count(name) > 1)
            raise InputError(f"{file} has two columns named {twice!r}: rename one")
        for field in schema:
            kind = field.type.value_type if pat.is_dictionary(field.type) else field.type
            known = types.setdefault(field.name, kind)
            met = unify(known, kind)
            if met is None and not textual:
                raise InputError(
                    f"{file}: column {field.name!r} is {kind}, but {known} in the files before it (from "
                    f"{schemas[0][0]} on): make them one type, or name files that agree in corpus.path"
                )
            types[field.name] = pa.string() if met is None else met
    return pa.schema(list(types.items()))


def unify(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds both without loss, None if there is none."""
    try:
        pair = [pa.schema([("", kind)]) for kind in (one, other)]
        return pa.unify_schemas(pair, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None


def conform(table: pa.Table, schema: pa.Schema, file: str) -> pa.Table:
    """Return the columns of `schema`, cast to its types; a column the table lacks is null."""
    arrays = [
        cast(table.column(field.name), field.type, field.name, file)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
