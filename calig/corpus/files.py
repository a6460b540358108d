"""Corpora in files: which files a path means, and what can be wrong with them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from calig.config import CorpusConfig
from calig.corpus import delimited, lines
from calig.corpus.images import SUFFIXES, open_image_files
from calig.corpus.source import BATCH_BYTES, BATCH_ROWS, Batch, Source, conform, merge_schemas
from calig.errors import InputError
from calig.records import Modality


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
    with pq.ParquetFile(path) as file:
        names = [name for name in schema.names if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=_batch_rows(file, names), columns=names):
            yield row, conform(pa.Table.from_batches([batch]), schema, str(path))
            row += batch.num_rows


def _batch_rows(file: pq.ParquetFile, names: Collection[str]) -> int:
    """How many rows of these columns are about BATCH_BYTES: images may be megabytes each."""
    size, meta = 0, file.metadata
    for group in range(meta.num_row_groups):
        columns = (meta.row_group(group).column(i) for i in range(meta.num_columns))
        size += sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] in names)
    return max(1, min(BATCH_ROWS, BATCH_BYTES * meta.num_rows // max(1, size)))


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
    """Open the files of `corpus.path`; reads their schemas (CSV and JSONL: a first pass over the rows)."""
    paths = resolve(corpus, modality)
    if all(_is_image(path) for path in paths):
        return open_image_files(str(corpus.path), paths)
    formats = {_format(path) for path in paths}
    if len(formats) > 1:
        names = " and ".join(sorted(form.name for form in formats))
        raise InputError(
            f"corpus.path {corpus.path!r} has {names} files: name one kind, for example data/*.csv"
        )
    (form,) = formats
    schemas = []
    for path in paths:
        with reading(path):
            schemas.append((str(path), form.schema(path, corpus.limit)))

    def read(schema: pa.Schema) -> Iterator[Batch]:
        for path in paths:
            with reading(path):
                for row, table in form.read(path, schema):
                    yield Batch(table, str(path), row)

    merged = merge_schemas(schemas, form.textual)
    return Source(str(corpus.path), schemas, merged, form.textual, None, read)


def resolve(corpus: CorpusConfig, modality: Modality = "text") -> list[Path]:
    """Return the files that `corpus.path` means, sorted; of a folder, all but hidden ones.

    Where there are image files and others, a corpus of images is the image files.
    """
    with reading(Path(str(corpus.path))):
        return _resolve(str(corpus.path), modality)


def expanded(given: str, field: str) -> Path:
    """Return the path with its ~ replaced by the home folder."""
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise InputError(f"{field} {given!r}: {error}; write the path out") from error


def _resolve(given: str, modality: Modality) -> list[Path]:
    if "://" in given:
        raise InputError(
            f"corpus.path {given!r} is not local: download it, or name a hub dataset in corpus.dataset"
        )
    path = expanded(given, "corpus.path")
    if path.is_dir():
        inside = (file for file in sorted(path.rglob("*")) if file.is_file())
        kept = [file for file in inside if _kept(file.relative_to(path))]
        images = [file for file in kept if _is_image(file)] if modality == "image" else []
        found = images or [file for file in kept if _suffix(file) in _FORMATS]
        if not found:
            known = (*(SUFFIXES if modality == "image" else ()), *_FORMATS)
            raise InputError(f"corpus.path {given!r} has no {', '.join(known)} file in it")
        return found
    if path.exists():
        found = [path]
    elif any(sign in given for sign in "*?["):
        anchor = Path(path.anchor)
        found = sorted(file for file in anchor.glob(str(path.relative_to(anchor))) if file.is_file())
        if not found:
            raise InputError(f"corpus.path {given!r} matches no file")
    else:
        raise InputError(f"corpus.path {given!r}: no such file or folder (from {Path.cwd()})")
    if modality == "image" and all(_is_image(file) for file in found):
        return found
    for file in found:
        _format(file)
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _kept(relative: Path) -> bool:
    return not any(part.startswith((".", "_")) for part in relative.parts)


def _suffix(path: Path) -> str:
    return "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()


def _format(path: Path) -> _Format:
    suffix = _suffix(path)
    if suffix in _FORMATS:
        return _FORMATS[suffix]
    if suffix in SUFFIXES:
        raise InputError(
            f"{path}: is an image, and the corpus's others are not, or the model reads texts; known are "
            f"{', '.join(_FORMATS)}"
        )
    hint = (
        "one JSON object per line, as .jsonl: jq -c '.[]'"
        if suffix == ".json"
        else "convert it to one of them"
    )
    raise InputError(f"{path}: is {suffix or 'without extension'}; known are {', '.join(_FORMATS)}: {hint}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong inside into an InputError that names the file; passing I/O errors pass through."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except PermissionError as error:
        raise InputError(f"{path} is not readable: permission denied; chmod u+r or ask its owner") from error
    except UnicodeDecodeError as error:
        line, byte = _locate_bad_utf8(path)
        raise InputError(
            f"{path} is not UTF-8 at line {line}, byte {byte}: convert it to UTF-8, "
            f"for example iconv -f latin1 -t utf-8 {path.name}"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is truncated or no gzip file: {error}; fetch it again") from error
    except pa.ArrowException as error:
        raise InputError(f"{path} is truncated or damaged: {_line(error)}; fetch it again") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(f"{path} is truncated or damaged: {_line(error)}; fetch it again") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _locate_bad_utf8(path: Path) -> tuple[int, int]:
    """Return the line and the byte in the file (of the uncompressed text), both from 1, that is not UTF-8."""
    offset = 0
    with lines.open_binary(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return number, offset + error.start + 1
            offset += len(line)
    return number, offset
