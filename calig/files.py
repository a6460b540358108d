"""How files get where they belong: whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from calig.rows import finite

PART_SUFFIX = ".part"


def part_path(path: Path) -> Path:
    """Return a fresh temporary name beside `path`, to be renamed to it once the file is whole."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}")


def sync(path: Path) -> None:
    """Force a file's, or a folder's, content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path`: after a crash the file holds either its old content or all of the new.

    For files that are in no warehouse; of one, use its `Files`.

    Parameters
    ----------
    path
        The file; its folder is created if need be.
    content
        The bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(path)
    try:
        part.write_bytes(content)
        _rename(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON to `path`, atomically (see `write_atomic`); NaN becomes null."""
    write_atomic(path, _json(value))


def sha256_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Remote(Protocol):
    """Where a folder's finished files are kept as well, and come from."""

    def publish(self, path: Path) -> None:
        """Take a finished file."""

    def delete(self, path: Path) -> None:
        """Let go of a file, or of a folder with all that is in it."""

    def fetch(self, *prefixes: str) -> None:
        """Bring what is under these paths (relative to the folder)."""

    def counted(self, prefix: str) -> set[str]:
        """Return the files under a path, relative to it, that are in force there as far as is known here."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one folder that is worked on, such as a warehouse's.

    Attributes
    ----------
    root
        The folder.
    remote
        Where its finished files are kept as well; None: here alone, and there is nothing to publish or to fetch.
    """

    root: Path
    remote: Remote | None = None

    def publish(self, *paths: Path) -> None:
        """Have finished files kept where those of the folder are, in this order."""
        if self.remote is not None:
            for path in paths:
                self.remote.publish(path)

    def fetch(self, folder: Path) -> None:
        """Bring the files below `folder`, a folder within the root, from where they are kept, if that is elsewhere."""
        if self.remote is not None:
            self.remote.fetch(folder.relative_to(self.root).as_posix())

    def counted(self, folder: Path) -> set[str] | None:
        """Return the names of the files below `folder` that count where they are kept; None: all that are here."""
        if self.remote is None:
            return None
        return self.remote.counted(folder.relative_to(self.root).as_posix())

    def discard(self, path: Path) -> None:
        """Delete a file, or a folder with all that is in it, here and where it is kept; it may be missing."""
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        self.withdraw(path)

    def withdraw(self, path: Path) -> None:
        """Have a file or folder that was deleted or moved away here no longer kept elsewhere."""
        if self.remote is not None:
            self.remote.delete(path)

    @contextmanager
    def making(self, path: Path) -> Iterator[Path]:
        """Give a temporary name for a file that is written in the `with` block.

        If the block ends well, it is renamed to `path`, durably: file and folder are synced; and published.
        """
        part = part_path(path)
        try:
            yield part
            _rename(part, path)
        finally:
            part.unlink(missing_ok=True)
        self.publish(path)

    def write_atomic(self, path: Path, content: bytes) -> None:
        """Write `content` to `path` as the function of this name does, and publish it."""
        write_atomic(path, content)
        self.publish(path)

    def write_json(self, path: Path, value: Any) -> None:
        """Write `value` to `path` as the function of this name does, and publish it."""
        self.write_atomic(path, _json(value))


def _json(value: Any) -> bytes:
    return (json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _rename(part: Path, path: Path) -> None:
    sync(part)
    part.replace(path)
    sync(path.parent)
