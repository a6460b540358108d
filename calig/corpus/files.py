"""Corpora in files: tables of three formats, or image files, which `images` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from calig.config import CorpusConfig
from calig.corpus import delimited, lines
from calig.corpus.images import open_images
from calig.corpus.partitions import Partitions
from calig.corpus.paths import folder_of, is_image, reach_of, reading, resolve, suffix
from calig.corpus.source import BATCH_BYTES, BATCH_ROWS, Batch, Source, conform, merge_schemas
from calig.errors import InputError
from calig.records import Modality
from calig.stores import cache_folder

READ_BYTES = 2**20
"""How much of a Parquet column is fetched at a time; by default pyarrow fetches, and keeps, whole row groups."""


@dataclass(frozen=True, slots=True)
class _Format:
    """How files of one kind are read: `schema(path, limit)`, `read(path, schema)` → (first row, table)."""

    name: str
    schema: Callable[[Path, int | None], pa.Schema]
    read: Callable[[Path, pa.Schema], Iterator[tuple[int, pa.Table]]]
    textual: bool = False


def _parquet_schema(path: Path, limit: int | None) -> pa.Schema:
    return pq.read_schema(path)


def _read_parquet(path: Path, schema: pa.Schema) -> Iterator[tuple[int, pa.Table]]:
    row = 1
    with pq.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False) as file:
        wanted = [
            name for field in schema if field.name in file.schema_arrow.names for name in _leaves(field)
        ]
        for batch in file.iter_batches(batch_size=_batch_rows(file.metadata, wanted), columns=wanted):
            yield row, conform(pa.Table.from_batches([batch]), schema, str(path))
            row += batch.num_rows


def _leaves(field: pa.Field) -> list[str]:
    """Return the names that Parquet has for a column, or for the fields that are wanted of one."""
    return (
        [f"{field.name}.{inner.name}" for inner in field.type] if pat.is_struct(field.type) else [field.name]
    )


def _batch_rows(metadata: pq.FileMetaData, names: list[str]) -> int:
    """Return how many rows of these columns are BATCH_BYTES at most, by the mean of the row group of the largest."""
    largest = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        sizes = (
            column.total_uncompressed_size
            for column in map(group.column, range(group.num_columns))
            if any(f"{column.path_in_schema}.".startswith(f"{name}.") for name in names)
        )
        largest = max(largest, sum(sizes) // max(1, group.num_rows))
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, largest)))


_PARQUET = _Format("Parquet", _parquet_schema, _read_parquet)
_CSV = _Format("CSV", delimited.schema, delimited.read, textual=True)
_JSONL = _Format("JSONL", lines.schema, lines.read)
_FORMATS = {
    ".parquet": _PARQUET,
    ".csv": _CSV,
    ".csv.gz": _CSV,
    ".jsonl": _JSONL,
    ".jsonl.gz": _JSONL,
    ".ndjson": _JSONL,
    ".ndjson.gz": _JSONL,
}


def open_files(corpus: CorpusConfig, modality: Modality = "text") -> Source:
    """Open the files of `corpus.path`; reads tables' schemas (CSV and JSONL: a first pass over the rows).

    Folders such as `dt=2026-11-24` in the files' paths make columns: see `calig.corpus.partitions`.
    """
    paths = resolve(corpus, modality)
    if is_image(paths[0]):
        return open_images(str(corpus.path), paths)
    formats = {_FORMATS[suffix(path)] for path in paths}
    if len(formats) > 1:
        names = " and ".join(sorted(form.name for form in formats))
        raise InputError(
            f"corpus.path {corpus.path!r} has {names} files: name one kind, for example data/*.csv"
        )
    (form,) = formats
    partitions = Partitions(paths)
    schemas = []
    for path in paths:
        with reading(path):
            own = form.schema(path, corpus.limit)
        schemas.append((str(path), partitions.added(own, path, form.textual) if own.names else own))

    given = str(corpus.path)
    reach = reach_of(cache_folder(given, "corpora") if "://" in given else folder_of(given))

    def read(schema: pa.Schema) -> Iterator[Batch]:
        for path in paths:
            folder = path.absolute().parent
            with reading(path):
                for row, table in form.read(path, partitions.within(schema)):
                    yield Batch(partitions.fill(table, schema, path), str(path), row, folder, reach)

    merged = merge_schemas(schemas, form.textual)
    return Source(str(corpus.path), schemas, merged, form.textual, None, read)
