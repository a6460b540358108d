"""Corpora in files: tables of three formats, or image files, which `images` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

from calig.config import CorpusConfig
from calig.corpus import delimited, lines
from calig.corpus.columns import is_kept
from calig.corpus.declared import Declared
from calig.corpus.images import open_images
from calig.corpus.kinds import check_kind
from calig.corpus.partitions import Partitions
from calig.corpus.paths import is_image, reach_of, reading, resolve, suffix
from calig.corpus.source import (
    BATCH_BYTES,
    BATCH_ROWS,
    ROW_BYTES,
    Batch,
    Rows,
    Source,
    TypesFrom,
    as_written,
    conform,
    merge_schemas,
)
from calig.errors import InputError
from calig.records import Modality
from calig.stores import cache_folder

READ_BYTES = 2**20
"""How much of a Parquet column is fetched at a time; by default pyarrow fetches, and keeps, whole row groups."""

_VALUE = 8
"""Bytes that a number takes in memory, however few it takes in a file."""


@dataclass(frozen=True, slots=True)
class _Format:
    """How files of one kind are read: `schema(path, limit)`, `read(path, schema)`, and where their types come from."""

    name: str
    schema: Callable[[Path, int | None], pa.Schema]
    read: Callable[[Path, pa.Schema], Iterator[Rows]]
    types: TypesFrom


def _parquet_schema(path: Path, limit: int | None) -> pa.Schema:
    return pq.read_schema(path)


def _read_parquet(path: Path, schema: pa.Schema) -> Iterator[Rows]:
    """Give rows, in memory bounded by a row group's pages; pyarrow's datasets keep more, and follow damage."""
    row = 1
    metadata = pq.read_metadata(path)
    # what few bytes stand for, a value that is there many times, is not multiplied before its size is known
    options = {"buffer_size": READ_BYTES, "pre_buffer": False, "read_dictionary": _strings(metadata)}
    with pq.ParquetFile(path, metadata=metadata, **options) as file:
        wanted = [
            name for field in schema if field.name in file.schema_arrow.names for name in _leaves(field)
        ]
        for batch in file.iter_batches(batch_size=_batch_rows(path, metadata, wanted), columns=wanted):
            for rows in _portions(batch, path, row):
                yield Rows(row, conform(pa.Table.from_batches([rows]), schema, str(path)))
                row += rows.num_rows


def _strings(metadata: pq.FileMetaData) -> list[str]:
    """Columns of text or bytes; not those inside of others, which Arrow cannot read as dictionaries."""
    columns = map(metadata.schema.column, range(metadata.num_columns))
    return [c.path for c in columns if c.physical_type == "BYTE_ARRAY" and c.path == c.name]


def _portions(batch: pa.RecordBatch, path: Path, row: int) -> Iterator[pa.RecordBatch]:
    """Cut a batch, whose strings are dictionaries yet, into ones of BATCH_BYTES at most, or of one row.

    Raises
    ------
    InputError
        A row has more than ROW_BYTES of text or bytes.
    """
    ends = np.cumsum(sum((_lengths(column) for column in batch.columns), np.zeros(batch.num_rows, np.int64)))
    first = 0
    while first < batch.num_rows:
        before = int(ends[first - 1]) if first else 0
        if ends[first] - before > ROW_BYTES:
            raise InputError(
                f"{path}, row {row + first}: has {(ends[first] - before) / 2**20:,.0f} MB of text or bytes, above the "
                f"limit of {ROW_BYTES // 2**20} MB a row: cut or leave out what is so long"
            )
        end = max(first + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
        columns = [column.slice(first, end - first) for column in batch.columns]
        written = [c.dictionary_decode() if pat.is_dictionary(c.type) else c for c in columns]
        yield pa.record_batch(written, names=batch.schema.names)
        first = end


def _lengths(column: pa.Array) -> npt.NDArray[np.int64]:
    """Bytes that the text of each row takes once it is written out; 0 of what is no dictionary."""
    if not pat.is_dictionary(column.type):
        return np.zeros(len(column), np.int64)
    sizes = pc.fill_null(pc.binary_length(column.dictionary), 0).to_numpy(zero_copy_only=False)
    places = pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False)
    if len(places) and not (places.min() >= -1 and places.max() < len(sizes)):
        raise pa.ArrowInvalid("text that is not in its dictionary")  # damage, which Arrow would follow
    lengths: npt.NDArray[np.int64] = np.append(sizes, 0).astype(np.int64)[places]
    return lengths


def _leaves(field: pa.Field) -> list[str]:
    """Return the names that Parquet has for a column, or for the fields that are wanted of one."""
    return (
        [f"{field.name}.{inner.name}" for inner in field.type] if pat.is_struct(field.type) else [field.name]
    )


def _batch_rows(path: Path, metadata: pq.FileMetaData, names: list[str]) -> int:
    """Return how many rows of these columns are BATCH_BYTES at most, by the mean of the row group of the largest.

    Fewer where text inside of other columns is stored once for many rows, each of which could be all that there is.

    Raises
    ------
    InputError
        The rows of a row group hold more than ROW_BYTES each.
    """
    most = BATCH_ROWS
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        rows = max(1, group.num_rows)
        chosen = [
            column
            for column in map(group.column, range(group.num_columns))
            if any(f"{column.path_in_schema}.".startswith(f"{name}.") for name in names)
        ]
        size = sum(max(c.total_uncompressed_size, _VALUE * c.num_values) for c in chosen) // rows
        if size > ROW_BYTES:
            raise InputError(
                f"{path}: has rows of {size / 2**20:,.0f} MB, above the limit of {ROW_BYTES // 2**20} MB: cut or leave "
                "out what is so long"
            )
        inside = (c for c in chosen if "." in c.path_in_schema and c.has_dictionary_page)
        single = max((c.total_uncompressed_size for c in inside), default=1)
        most = min(most, BATCH_BYTES // max(1, size), 4 * ROW_BYTES // max(1, single))
    return max(1, most)


_PARQUET = _Format("Parquet", _parquet_schema, _read_parquet, "file")
_CSV = _Format("CSV", delimited.schema, delimited.read, "text")
_JSONL = _Format("JSONL", lines.schema, lines.read, "values")
_FORMATS = {".parquet": _PARQUET, ".csv": _CSV, ".tsv": _CSV, ".jsonl": _JSONL, ".ndjson": _JSONL}


def open_files(corpus: CorpusConfig, modality: Modality = "text") -> Source:
    """Open the files of `corpus.path`; reads tables' schemas (JSONL: a first pass over the rows).

    Folders such as `dt=2026-11-24` in the files' paths make columns: see `calig.corpus.partitions`.
    """
    found = resolve(corpus, modality)
    paths = found.files
    if is_image(paths[0]):
        return open_images(str(corpus.path), found)
    formats = {_FORMATS[f".{suffix(path).split('.')[1]}"] for path in paths}
    if len(formats) > 1:
        names = " and ".join(sorted(form.name for form in formats))
        raise InputError(
            f"corpus.path {corpus.path!r} has {names} files: name one kind, for example data/*.csv"
        )
    (form,) = formats
    content = (corpus.image,) if modality == "image" else (corpus.text, corpus.text_pair)
    partitions = Partitions(paths, [name for name in content if name is not None])
    schemas = []
    declared = Declared(corpus.label)
    for path in paths:
        with reading(path):
            check_kind(path, form.name)
            own = form.schema(path, corpus.limit)
        declared.add(own, str(path))
        schemas.append((str(path), partitions.added(own, path) if own.names else own))

    given = str(corpus.path)
    reach = reach_of(cache_folder(given, "corpora") if "://" in given else found.folder)

    def read(schema: pa.Schema) -> Iterator[Batch]:
        for path, (_, own) in zip(paths, schemas, strict=True):
            folder = path.absolute().parent
            wanted = partitions.within(schema)
            if not wanted.names:  # of columns that are all in the folders' names, a file says how many rows
                wanted = pa.schema([as_written(name) for name in own.names[:1]])
            with reading(path):
                for rows in form.read(path, wanted):
                    table = partitions.fill(rows.table, schema, path)
                    yield Batch(table, str(path), rows.first, folder, reach, rows.misfits)

    kept = [
        (file, pa.schema([field for field in own if is_kept(corpus, field.name)])) for file, own in schemas
    ]
    merged = merge_schemas(kept, form.types, corpus.types, corpus.image if modality == "image" else None)
    return Source(
        *(given, schemas, merged, form.types, declared.names, read),
        left_out=found.left_out,
        replaced=[name for name in partitions.replaced if name in merged.names],
    )
