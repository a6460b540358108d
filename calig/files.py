"""How files get where they belong: whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

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


def swap_in(part: Path, path: Path) -> None:
    """Rename the finished temporary file `part` to `path`, durably: file and folder are synced."""
    sync(part)
    part.replace(path)
    sync(path.parent)


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
    """Write `value` as indented UTF-8 JSON to `path`, atomically (see `write_atomic`)."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def sha256_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
