"""Which files a path means, and what can be wrong with them."""

from __future__ import annotations

import gzip
import lzma
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa

from calig.config import CorpusConfig
from calig.corpus import lines
from calig.corpus.left_out import NO_FILE, NOWHERE, LeftOut, in_words
from calig.corpus.remote import local_copies
from calig.corpus.search import is_glob, search
from calig.errors import InputError
from calig.listing import exists, is_file, is_folder
from calig.records import Modality

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
"""Endings of compressed files of lines, after that of what is in them."""
LINES = (".csv", ".tsv", ".jsonl", ".ndjson")
TABLES = (".parquet", *LINES, *(kind + packed for kind in LINES for packed in COMPRESSED))
IMAGES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".avif", ".avifs", ".jp2", ".j2k", ".jpf", ".jpx"),
)
_CODECS = {".webp": "webp", ".avif": "avif", ".avifs": "avif", **dict.fromkeys(IMAGES[-4:], "jpg_2000")}
"""What a Pillow may have been built without."""
JSON_HINT = "one JSON object per line, as .jsonl: jq -c '.[]'"
_NAMED_TABLES = f".parquet, {', '.join(LINES)}, also as {', '.join(COMPRESSED)}"


@dataclass(frozen=True, slots=True)
class Found:
    """Files to read, and what lies beside them and is not read.

    Attributes
    ----------
    files
        What is read, sorted.
    left_out
        What is not, as `calig.corpus.left_out.LeftOut.to_json` gives it.
    folder
        The folder that the search began with; of one file, its own.
    named
        Whether the path names one file itself: then that may be a link to anywhere.
    """

    files: list[Path]
    left_out: Mapping[str, Mapping[str, Any]]
    folder: Path
    named: bool

    @property
    def reach(self) -> Path:
        """The folder, resolved, that links among the files must not lead out of."""
        return self.files[0].resolve().parent if self.named else reach_of(self.folder)


def resolve(corpus: CorpusConfig, modality: Modality = "text") -> Found:
    """Return the files that `corpus.path` means, sorted, and what it leaves out (see `calig.corpus.search`).

    For images those are the image files, if there are any; a link to an image that is not there is one of them, so
    that the image is missed. All others are tables.
    """
    given = str(corpus.path)
    left_out = LeftOut()
    with reading(Path(given)):
        path, found = _candidates(given, left_out)
        known = [file for file in found if is_image(file) or suffix(file) in TABLES]
        images = [file for file in known if is_image(file) and (is_file(file) or not exists(file))]
        of_images = bool(images) and modality == "image"
        files = images if of_images else [file for file in known if not is_image(file) and is_file(file)]
        if found == [path] and not files and not images:
            raise InputError(_unread(path, modality))
        folder, read = _folder(path), set(files)
        for file in found:
            if file not in read:
                left_out.add(_why(file), _name(file, folder))
        if not files:
            raise InputError(_nothing(given, modality, found, images, left_out))
        if found != [path] and not of_images:
            check_links(files, folder, "corpus.path")
        return Found(files, left_out.to_json(), folder, found == [path])


def _folder(path: Path) -> Path:
    """The folder that a path names: itself, that of the file, or that before the first sign of a glob."""
    if is_folder(path):
        return path
    if exists(path):
        return path.parent
    return Path(*takewhile(lambda part: not is_glob(part), path.parts))


def reach_of(folder: Path) -> Path:
    """Return the folder, resolved, that what lies in a corpus's folder must not lead out of: that folder.

    Of one in the hub's cache, whose files are links to those in `blobs`, the folder that holds both.
    """
    folder = folder.resolve()
    for place in (folder, *folder.parents):
        if place.name == "snapshots" and is_folder(place.parent / "blobs"):
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


def expanded(given: str, field: str) -> Path:
    """Return the path with its ~ replaced by the home folder."""
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise InputError(f"{field} {given!r}: {error}; write the path out") from error


def suffix(path: Path) -> str:
    """Return how the file's name ends, in lower case, with what is before .gz and the like."""
    return "".join(path.suffixes[-2:] if path.suffix.lower() in COMPRESSED else path.suffixes[-1:]).lower()


def is_image(path: Path) -> bool:
    """Whether the file is an image by its name, of a kind that this machine's Pillow reads."""
    ending = suffix(path)
    return ending in IMAGES and not (ending in _CODECS and ending in _unsupported())


@cache
def _unsupported() -> frozenset[str]:
    """Endings of images that this machine's Pillow cannot read."""
    from PIL import features

    return frozenset(ending for ending, codec in _CODECS.items() if not features.check(codec))


def _candidates(given: str, left_out: LeftOut) -> tuple[Path, list[Path]]:
    """Return the path on this machine, and the files that are there or match it."""
    if "://" in given:
        copies = local_copies(given, left_out)
        return copies.place, copies.files
    path = expanded(given, "corpus.path")
    if is_folder(path):
        return path, search(path, ("**", "*"), reach_of(path), left_out)
    if exists(path):
        return path, [path]
    if is_glob(given):
        folder = _folder(path)
        parts = path.parts[len(folder.parts) :]
        found = search(folder, parts, reach_of(folder), left_out)
        if found or left_out.to_json():
            return path, found
        raise InputError(f"corpus.path {given!r} matches no file")
    raise InputError(f"corpus.path {given!r}: no such file or folder (from {Path.cwd()})")


def _why(file: Path) -> str:
    """The kind under which a file that is not read is counted."""
    if not exists(file):
        return NOWHERE
    return (suffix(file) or "without extension") if is_file(file) else NO_FILE


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)


def _nothing(
    given: str, modality: Modality, found: Sequence[Path], images: Sequence[Path], left_out: LeftOut
) -> str:
    """What to say where there is no file to read."""
    if images:
        return (
            f"corpus.path {given!r}: {images[0].name} is an image, and the model reads text: choose a model of "
            f"images, or files with a text column ({_NAMED_TABLES})"
        )
    beside = in_words(left_out.to_json())
    hint = f": {JSON_HINT}" if any(suffix(file) == ".json" for file in found) else ""
    return f"corpus.path {given!r} has no {_known(modality)} file in it{f'; it has {beside}' if beside else ''}{hint}"


def _unread(path: Path, modality: Modality) -> str:
    """What to say of a file that is named and cannot be read."""
    ending = suffix(path)
    hint = JSON_HINT if ending == ".json" else "convert it to one of them"
    return f"{path}: is {ending or 'without extension'}; known are {_known(modality)}: {hint}"


def _known(modality: Modality) -> str:
    images = [ending for ending in IMAGES if is_image(Path(f"x{ending}"))]
    return ", ".join([*(images if modality == "image" else []), _NAMED_TABLES])


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
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        kind = {".bz2": "bzip2", ".xz": "xz"}.get(path.suffix.lower(), "gzip")
        raise InputError(f"{path} is truncated or no {kind} file: {error}; fetch it again") from error
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
