"""Corpora of images: files, and columns that hold images or name their files.

Such a column is what `datasets` writes (a struct of `bytes` and `path`), bytes, or paths, from the folder of the file
that names them. Corpora are not trusted: a file that is not below the folder that the configuration names, by its path
or by a link on the way, is not opened, and its document fails.

Images that are in a table are kept in the corpus's parts; files are referred to, and read again when
they are explained. Nothing is decoded here, and an image that is empty or not there is a document: one that fails.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.types as pat

from calig.corpus.columns import is_text
from calig.corpus.paths import Found, leaves, reading
from calig.corpus.source import Batch, Source, first_rows
from calig.errors import InputError
from calig.records import image_key, missing_image_key, outside_image_key

BATCH_FILES = 256
_SCHEMA = pa.schema([("image", pa.string()), ("label", pa.string()), ("file", pa.string())])
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def open_images(given: str, found: Found) -> Source:
    """Open image files, a row each: `image` is the path, `label` the folder it lies in, `file` its path in `given`."""
    paths, folder, reach = found.files, found.folder, found.reach

    def read(schema: pa.Schema) -> Iterator[Batch]:
        for first in range(0, len(paths), BATCH_FILES):
            files = paths[first : first + BATCH_FILES]
            for file in files:
                _check_name(file)
            columns = {
                "image": [str(file.absolute()) for file in files],
                "label": [file.absolute().parent.name for file in files],
                "file": [file.relative_to(folder).as_posix() for file in files],
            }
            table = pa.table([columns[name] for name in schema.names], schema=schema)
            yield Batch(table, given, first + 1, Path.cwd(), reach)

    return Source(
        given,
        [(given, _SCHEMA)],
        _SCHEMA,
        "file",
        None,
        read,
        id="file",
        image="image",
        left_out=found.left_out,
    )


def check_image_type(source: Source, column: str) -> None:
    """Raise an InputError if the column cannot hold images."""
    kind = source.schema.field(column).type
    fields = {field.name: field.type for field in kind} if pat.is_struct(kind) else {}
    held, named = fields.get("bytes", pa.null()), fields.get("path", pa.null())
    if _is_bytes(kind) or is_text(kind) or pat.is_null(kind) or source.types == "text":
        return
    if fields.keys() & {"bytes", "path"} and _is_bytes(held) and (is_text(named) or pat.is_null(named)):
        return
    raise InputError(
        f"{source.name}: column {column!r} is {kind}, not images: choose another corpus.image; it needs bytes, paths, "
        "or a struct of bytes and path"
    )


def take_images(batch: Batch, column: str) -> tuple[list[str], list[str], list[bytes | None]]:
    """Return the keys of a batch's images, their references, and the bytes of those that are no files.

    Parameters
    ----------
    batch
        Rows of a corpus.
    column
        The column of images.

    Raises
    ------
    InputError
        An image is on the net, or may not be read.
    """
    keys: list[str] = []
    references: list[str] = []
    held: list[bytes | None] = []
    for row, value in enumerate(batch.table.column(column), start=batch.row):
        data, path = _bytes_and_path(value.as_py())
        file = _file(path, batch, row) if path and data is None else None
        keys.append(image_key(data or b"") if file is None else _file_key(file, batch.reach))
        references.append(str(file) if file is not None else path or f"{Path(batch.file).name}#{row}")
        held.append(None if file is not None else data or b"")
    return keys, references, held


def named_files(source: Source, column: str, limit: int | None) -> Iterator[Path]:
    """Give the files in reach that a table's first rows name as images; bytes that it holds stay unread."""
    kind = source.schema.field(column).type if column in source.schema.names else pa.null()
    if pat.is_struct(kind):
        kind = pa.struct([field for field in kind if field.name == "path"])
    if not is_text(kind) and not pat.is_struct(kind):
        return
    for batch in first_rows(source.read(pa.schema([(column, kind)])), limit):
        for row, value in enumerate(batch.table.column(column), start=batch.row):
            _, path = _bytes_and_path(value.as_py())
            if path and "\0" not in path and not _is_url(path):
                file = _file(path, batch, row)
                if batch.reach is None or not leaves(file, batch.reach):
                    yield file


def _bytes_and_path(value: object) -> tuple[bytes | None, str | None]:
    if isinstance(value, dict):
        return value.get("bytes"), value.get("path")
    return (value, None) if isinstance(value, bytes) else (None, value if isinstance(value, str) else None)


def _file(path: str, batch: Batch, row: int) -> Path:
    """Return where the file is that a row names."""
    shown = repr(path if len(path) <= 80 else f"{path[:79]}…")
    if _is_url(path):
        raise InputError(f"{batch.file}, row {row}: image {shown} is not local: download the images first")
    if batch.folder is None:
        raise InputError(
            f"{batch.file}, row {row}: image {shown} is only the name of a file: download the dataset and give its "
            "folder, or choose another corpus.image"
        )
    return batch.folder / path


def _is_url(path: str) -> bool:
    return "://" in path or path.startswith("data:")


def _file_key(file: Path, reach: Path | None) -> str:
    """Return what `image_key` says of the file's bytes, without holding them; devices and pipes are not read.

    Nor is what lies outside of `reach`.
    """
    if reach is not None and leaves(file, reach):
        return outside_image_key(str(file))
    with reading(file):
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                return missing_image_key(str(file))
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256")
        except ValueError:  # a NUL in the path
            return missing_image_key(str(file))
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            return missing_image_key(str(file))
    return digest.hexdigest()


def _check_name(file: Path) -> None:
    try:
        str(file).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{os.fsencode(file)!r}: the file's name is not UTF-8: rename it") from error


def _is_bytes(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pat.is_binary, pat.is_large_binary, pat.is_binary_view, pat.is_null))
