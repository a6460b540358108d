"""Which files a path means, and what can be wrong with them."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import pyarrow as pa

from calig.config import CorpusConfig
from calig.corpus import lines
from calig.corpus.remote import local_copies
from calig.errors import InputError
from calig.records import Modality

TABLES = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")


def resolve(corpus: CorpusConfig, modality: Modality = "text") -> list[Path]:
    """Return the files that `corpus.path` means, sorted; of a folder, all but hidden ones.

    For images those are the image files, if there are any; a link to an image that is not there is one of them, so
    that the image is missed. All others are tables.
    """
    given = str(corpus.path)
    with reading(Path(given)):
        path = _place(given)
        found = _found(given, path, modality)
        images = [file for file in found if is_image(file)]
        if images and modality == "image":
            return images
        tables = [file for file in found if not is_image(file)]
        if images and not tables:
            raise InputError(
                f"corpus.path {given!r}: {images[0].name} is an image, and the model reads text: choose a model of "
                f"images, or files with a text column ({', '.join(TABLES)})"
            )
        for file in tables:
            _check_table(file)
        if found != [path]:
            check_links(tables, _folder(path), "corpus.path")
        return tables


def folder_of(given: str) -> Path:
    """Return the folder that a path names: itself, that of the file, or that before the first sign of a glob."""
    return _folder(_place(given))


def _folder(path: Path) -> Path:
    if path.is_dir():
        return path
    if path.exists():
        return path.parent
    return Path(*takewhile(lambda part: not _is_glob(part), path.parts))


def reach_of(folder: Path) -> Path:
    """Return the folder, resolved, that what lies in a corpus's folder must not lead out of: that folder.

    Of one in the hub's cache, whose files are links to those in `blobs`, the folder that holds both.
    """
    folder = folder.resolve()
    for place in (folder, *folder.parents):
        if place.name == "snapshots" and (place.parent / "blobs").is_dir():
            return place.parent
    return folder


def leaves(path: Path, reach: Path) -> bool:
    """Whether a path, with all links in it followed, is not below the folder `reach`; there may be nothing there."""
    try:
        return not Path(os.path.realpath(path)).is_relative_to(reach)
    except ValueError:  # a NUL: it leads nowhere
        return False


def check_links(files: Iterable[Path], folder: Path, field: str) -> None:
    """Raise an InputError if one of the files found in a folder is a link that leads out of it."""
    reach = reach_of(folder)
    for file in files:
        if leaves(file, reach):
            raise InputError(
                f"{field}: {file} is a link that leads out of {folder}: put the file itself there, or name the "
                "folder that it is in"
            )


def _place(given: str) -> Path:
    """Return where what `corpus.path` names lies on this machine: in place or, of what is in a store, its copy."""
    return local_copies(given) if "://" in given else expanded(given, "corpus.path")


def expanded(given: str, field: str) -> Path:
    """Return the path with its ~ replaced by the home folder."""
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise InputError(f"{field} {given!r}: {error}; write the path out") from error


def suffix(path: Path) -> str:
    """Return how the file's name ends, in lower case, with what is before .gz."""
    return "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()


def is_image(path: Path) -> bool:
    """Whether the file is an image by its name."""
    return suffix(path) in IMAGES


def _found(given: str, path: Path, modality: Modality) -> list[Path]:
    if path.is_dir():
        known = [file for file in path.rglob("*") if is_image(file) or suffix(file) in TABLES]
        found = sorted(file for file in known if _kept(file.relative_to(path)) and _is_there(file))
        if not found:
            wanted = (*IMAGES, *TABLES) if modality == "image" else TABLES
            raise InputError(f"corpus.path {given!r} has no {', '.join(wanted)} file in it")
        return found
    if path.exists():
        return [path]
    if _is_glob(given):
        anchor = Path(path.anchor)
        found = sorted(file for file in anchor.glob(str(path.relative_to(anchor))) if _is_there(file))
        if not found:
            raise InputError(f"corpus.path {given!r} matches no file")
        return found
    raise InputError(f"corpus.path {given!r}: no such file or folder (from {Path.cwd()})")


def _is_glob(path: str) -> bool:
    return any(sign in path for sign in "*?[")


def _is_there(file: Path) -> bool:
    return file.is_file() or (is_image(file) and file.is_symlink() and not file.exists())


def _kept(relative: Path) -> bool:
    return not any(part.startswith((".", "_")) for part in relative.parts)


def _check_table(path: Path) -> None:
    ending = suffix(path)
    if ending in TABLES:
        return
    hint = (
        "one JSON object per line, as .jsonl: jq -c '.[]'"
        if ending == ".json"
        else "convert it to one of them"
    )
    raise InputError(f"{path}: is {ending or 'without extension'}; known are {', '.join(TABLES)}: {hint}")


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
    except MemoryError as error:  # Arrow's is an ArrowException as well
        raise InputError(
            f"{path} takes more memory than there is: write it again in smaller rows, pages and row groups"
        ) from error
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
        for number, line in enumerate(lines.bounded(stream, path), start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return number, offset + error.start + 1
            offset += len(line)
    return number, offset
