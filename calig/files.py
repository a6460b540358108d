"""How files get where they belong: whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any, Protocol

from calig.rows import finite

PART_SUFFIX = ".part"


class Store(Protocol):
    """Where a folder's finished files go as well, and come from."""

    def publish(self, path: Path) -> None:
        """Take a finished file."""

    def delete(self, path: Path) -> None:
        """Let go of a file, or of a folder with all that is in it."""

    def fetch(self, *prefixes: str) -> None:
        """Bring what is under these paths (relative to the folder)."""


_stores: dict[Path, Store] = {}


def keep_in(root: Path, store: Store) -> None:
    """From here on, have the files of the folder `root` kept in `store` too."""
    _stores[root] = store


def publish(*paths: Path) -> None:
    """Have finished files kept where those of their folder are, in this order."""
    for path in paths:
        if found := _store_of(path):
            found[1].publish(path)


def fetch(folder: Path) -> None:
    """Bring a folder's files from where they are kept, if that is elsewhere too."""
    if found := _store_of(folder):
        found[1].fetch(folder.relative_to(found[0]).as_posix())


def discard(path: Path) -> None:
    """Delete a file, or a folder with all that is in it, here and where it is kept; it may be missing."""
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    withdraw(path)


def withdraw(path: Path) -> None:
    """Have a file or folder that was deleted or moved away here no longer kept elsewhere."""
    if found := _store_of(path):
        found[1].delete(path)


def _store_of(path: Path) -> tuple[Path, Store] | None:
    return next(((root, store) for root, store in _stores.items() if path.is_relative_to(root)), None)


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


def swap_in(part: Path, path: Path) -> None:
    """Rename the finished temporary file `part` to `path`, durably: file and folder are synced; and publish it."""
    sync(part)
    part.replace(path)
    sync(path.parent)
    publish(path)


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path`: after a crash the file holds either its old content or all of the new.

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
        swap_in(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON to `path`, atomically (see `write_atomic`); NaN becomes null."""
    write_atomic(
        path, (json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    )


def sha256_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
