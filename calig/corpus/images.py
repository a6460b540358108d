"""Corpora of images: folders of image files, and columns that hold images or say where they are.

A column of images is what `datasets` writes (a struct of `bytes` and `path`), bytes, or paths, relative to the file that
names them. Embedded images are kept in the corpus's parts; files are only referred to, and read again when they are
explained. Nothing is decoded here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.types as pat

from calig.corpus.columns import is_text
from calig.corpus.source import BATCH_ROWS, Batch, Source
from calig.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
_SCHEMA = pa.schema([("image", pa.string()), ("label", pa.string()), ("file", pa.string())])


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of a corpus: a reference that a reader can find it by, its bytes, and whether those must be kept.

    `data` is None where the reference is the path of a file that is not there.
    """

    reference: str
    data: bytes | None
    embedded: bool


def open_image_files(given: str, paths: Sequence[Path]) -> Source:
    """A row for each file: `image` is its path, `label` the folder it lies in, `file` (the id) its place in the corpus."""
    folder = Path(given).expanduser()
    root = folder.resolve() if folder.is_dir() else None

    def read(schema: pa.Schema) -> Iterator[Batch]:
        for first in range(0, len(paths), BATCH_ROWS):
            files = [path.absolute() for path in paths[first : first + BATCH_ROWS]]
            rows = {
                "image": [str(file) for file in files],
                "label": [file.parent.name for file in files],
                "file": [
                    str(file.resolve().relative_to(root)) if root and _inside(file, root) else file.name
                    for file in files
                ],
            }
            yield Batch(pa.table({name: rows[name] for name in schema.names}, schema), given, first + 1)

    return Source(given, [(given, _SCHEMA)], _SCHEMA, False, None, read, id="file", image="image")


def check_image_type(kind: pa.DataType, column: str, source: str) -> None:
    """Raise an InputError if a column of this type cannot hold images."""
    held = {field.name for field in kind} if pat.is_struct(kind) else set()
    if is_text(kind) or pat.is_null(kind) or _is_bytes(kind) or held & {"bytes", "path"}:
        return
    raise InputError(
        f"{source}: column {column!r} is {kind}, not images (bytes, paths, or a struct of both): choose another "
        "corpus.image"
    )


def pictures(column: pa.ChunkedArray, batch: Batch) -> Iterator[Picture]:
    """The images of a column, one by one; those that are not there, or null, too.

    Raises
    ------
    InputError
        A path is a URL, or a file may not be read.
    """
    folder = Path(batch.file).parent if Path(batch.file).is_file() else Path.cwd()
    for offset, scalar in enumerate(column):
        value = scalar.as_py()
        if isinstance(value, dict):
            data, path = value.get("bytes"), value.get("path")
        else:
            data, path = (value, None) if isinstance(value, bytes) else (None, value)
        row = batch.row + offset
        if data is not None or path is None:
            yield Picture(path or f"{Path(batch.file).name}#{row}", data or b"", embedded=True)
            continue
        if "://" in path:
            raise InputError(f"{batch.file}, row {row}: {path!r} is not local: download the images first")
        file = folder / Path(path).expanduser()
        try:
            yield Picture(str(file), file.read_bytes(), embedded=False)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            yield Picture(str(file), None, embedded=False)
        except PermissionError as error:
            raise InputError(
                f"{file} is not readable: permission denied; chmod u+r or ask its owner"
            ) from error


def _inside(file: Path, root: Path) -> bool:
    return file.resolve().is_relative_to(root)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pat.is_binary(kind) or pat.is_large_binary(kind) or pat.is_fixed_size_binary(kind))
