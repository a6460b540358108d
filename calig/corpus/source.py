"""What every kind of source gives: named files with schemas, read as batches of one schema.

The schema that a source is asked for says of some columns how they are to be read, in their fields' metadata: as
written (`as_written`), or as what the model reads (`as_content`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.types as pat

from calig.corpus import json_types
from calig.corpus.columns import cast
from calig.errors import InputError

BATCH_ROWS = 2_000
BATCH_BYTES = 16 * 2**20
ROW_BYTES = 64 * 2**20
"""A row of more is refused: files of strangers may have been made to fill the memory of whoever reads them."""


_ROLE = b"calig.role"


def as_written(name: str) -> pa.Field:
    """Ask for a column as text, its values as the file has them; of Parquet and the like, in its own type."""
    return pa.field(name, pa.string(), metadata={_ROLE: b"written"})


def as_content(name: str) -> pa.Field:
    """Ask for a column of texts for the model, in which anything else is an error."""
    return pa.field(name, pa.string(), metadata={_ROLE: b"content"})


def is_written(field: pa.Field) -> bool:
    """Whether a column is asked for as written."""
    return (field.metadata or {}).get(_ROLE) == b"written"


def is_content(field: pa.Field) -> bool:
    """Whether a column is asked for as texts for the model."""
    return (field.metadata or {}).get(_ROLE) == b"content"


@dataclass(frozen=True, slots=True)
class Misfit:
    """A value that does not fit the type that its column has, and is null in the rows: its column, row and text."""

    column: str
    row: int
    value: str


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Successive rows of a file of tables, of which the first has the number `first`."""

    first: int
    table: pa.Table
    misfits: Sequence[Misfit] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Successive rows of one file; `row` is the number of the first, counted from 1 in that file.

    `folder` is where the paths in it start, None if it is not on this machine; `reach` is the folder (resolved) that
    they, and links, must not lead out of, None where there are no paths. `misfits` may be of later rows as well.
    """

    table: pa.Table
    file: str
    row: int
    folder: Path | None = None
    reach: Path | None = None
    misfits: Sequence[Misfit] = ()


TypesFrom: TypeAlias = Literal["file", "values", "text"]


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
    types
        Where the types in `schema` come from: the "file" (Parquet), the "values" (JSONL: they hold all of these), or
        nowhere, since all is "text" (CSV).
    label_names
        Names of the label column's class indices, where the source declares them.
    read
        Gives the batches; asked for a schema of some of the columns, it may leave the others unread.
    id, image
        Of image files: the columns that name the documents, where the user names none, and hold the images.
    left_out
        Files beside those read, as `calig.corpus.left_out.LeftOut.to_json` gives them; None where a source is no files.
    replaced
        Columns of the files that are not read, since folders of their names have the values.
    """

    name: str
    schemas: Sequence[tuple[str, pa.Schema]]
    schema: pa.Schema
    types: TypesFrom
    label_names: Sequence[str] | None
    read: Callable[[pa.Schema], Iterator[Batch]]
    id: str | None = None
    image: str | None = None
    left_out: Mapping[str, Mapping[str, Any]] | None = None
    replaced: Sequence[str] = ()


def first_rows(batches: Iterator[Batch], limit: int | None) -> Iterator[Batch]:
    """Give the batches up to `limit` rows."""
    left = limit
    for batch in batches:
        yield batch if left is None else replace(batch, table=batch.table.slice(0, left))
        if left is not None:
            left -= batch.table.num_rows
            if left <= 0:
                return


def merge_schemas(
    schemas: Sequence[tuple[str, pa.Schema]],
    types: TypesFrom = "file",
    fixed: Collection[str] = (),
    image: str | None = None,
) -> pa.Schema:
    """Return one schema that holds all: integers widen, integers become floats, nulls become anything.

    Values of JSON that have no type in common are JSON text; so are columns that are in `fixed`, whose types the
    configuration says, and of which each file's may be another. Types of files that do not meet are an InputError,
    which names the file. The column `image` keeps what its objects have, values or not.
    """
    merged: dict[str, pa.DataType] = {}
    for file, schema in schemas:
        if len(set(schema.names)) < len(schema.names):
            twice = next(name for name in schema.names if schema.names.count(name) > 1)
            raise InputError(f"{file} has two columns named {twice!r}: rename one")
        for field in schema:
            kind = field.type.value_type if pat.is_dictionary(field.type) else field.type
            known = merged.setdefault(field.name, kind)
            met = json_types.merge(known, kind) if types == "values" else unify(known, kind)
            if met is None and field.name not in fixed:
                raise InputError(
                    f"{file}: column {field.name!r} is {kind}, but {known} in the files before it (from "
                    f"{schemas[0][0]} on): name files that agree, set corpus.types, or leave it out in corpus.columns"
                )
            merged[field.name] = known if met is None else met
    if types == "values":
        merged = {n: kind if n == image else json_types.settled(kind) for n, kind in merged.items()}
    return pa.schema(list(merged.items()))


def unify(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds both without loss, None if there is none."""
    try:
        pair = [pa.schema([("", kind)]) for kind in (one, other)]
        return pa.unify_schemas(pair, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None


def conform(table: pa.Table, schema: pa.Schema, file: str) -> pa.Table:
    """Return the columns of `schema`, cast to its types, but as written unchanged; one that the table lacks is null."""
    arrays = [
        pa.nulls(table.num_rows, field.type)
        if field.name not in table.column_names
        else table.column(field.name)
        if is_written(field)
        else cast(table.column(field.name), field.type, field.name, file)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, names=schema.names)
