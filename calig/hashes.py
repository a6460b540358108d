"""Hashes of files' contents, remembered so that a file that did not change is not read again.

A hash is remembered under the file's device, inode, size, time of change (ctime) and time of modification (mtime).
Names and mtimes alone say little: reproducible images and `cp -p` give two files the same. The system sets the ctime
whenever content, name or times change, and nobody can set it back. A hash is not remembered where the ctime was less
than two seconds old when reading began: a file system's clock may be that coarse, and a second change would not show.

They are kept in `hashes.sqlite` under `$CALIG_CACHE` (default: `~/.cache/calig`), which may be deleted at any time.
Where it cannot be written, files are read each time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Generator, Iterable
from pathlib import Path

from calig.listing import status_of
from calig.stores import cache_home

log = logging.getLogger(__name__)

QUIET_SECONDS = 2.0
"""Age of a file's last change from which its hash is remembered."""

_FLUSH_ROWS, _FLUSH_SECONDS = 1_000, 5.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS hashes (device INTEGER, inode INTEGER, size INTEGER, changed INTEGER, "
    "modified INTEGER, sha256 TEXT, PRIMARY KEY (device, inode, size, changed, modified)) WITHOUT ROWID"
)
_FIND = "SELECT sha256 FROM hashes WHERE (device, inode, size, changed, modified) = (?, ?, ?, ?, ?)"
_KEEP = "INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)"

Stamp = tuple[int, int, int, int, int]


def content_hash(path: Path) -> str | None:
    """Return the SHA-256 (hex) of a file's bytes; None where there is no regular file. Errors as `content_hashes`."""
    [found] = content_hashes([path])
    return found


def content_hashes(paths: Iterable[Path]) -> Generator[str | None]:
    """Give the SHA-256 (hex) of each file's bytes, None where there is no regular file.

    Raises
    ------
    InputError
        A file is in a folder that may not be entered.
    OSError
        A file may not be read, or reading it fails.
    """
    memory = _Memory(cache_home() / "hashes.sqlite")
    try:
        for path in paths:
            yield _find(path, memory)
    finally:
        memory.close()


def _find(path: Path, memory: _Memory) -> str | None:
    status = status_of(path)
    if status is None or not stat.S_ISREG(status.st_mode):
        return None  # a pipe or a device might never end
    if (known := memory.find(_stamp(status))) is not None:
        return known
    try:
        digest, stamp = _read(path)
    except FileNotFoundError:  # gone since
        return None
    if stamp is not None:
        memory.keep(stamp, digest)
    return digest


def _read(path: Path) -> tuple[str, Stamp | None]:
    """Hash a file; also its stamp, None where it changed lately or while it was read."""
    with path.open("rb") as stream:
        before, now = os.fstat(stream.fileno()), time.time_ns()
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        after = os.fstat(stream.fileno())
    quiet = now - before.st_ctime_ns >= QUIET_SECONDS * 1e9
    return digest, _stamp(before) if quiet and _stamp(before) == _stamp(after) else None


def _stamp(status: os.stat_result) -> Stamp:
    # SQLite's integers are signed
    device, inode = (number - (number >> 63 << 64) for number in (status.st_dev, status.st_ino))
    return device, inode, status.st_size, status.st_ctime_ns, status.st_mtime_ns


class _Memory:
    """The remembered hashes; where the file cannot be used, none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending: list[tuple[int | str, ...]] = []
        self._flushed = time.monotonic()
        self._connection: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=30)
            with self._connection:
                self._connection.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def find(self, stamp: Stamp) -> str | None:
        """Return the hash of a file in this state, None if it is not known."""
        if self._connection is None:
            return None
        try:
            row = self._connection.execute(_FIND, stamp).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        return str(row[0]) if row else None

    def keep(self, stamp: Stamp, digest: str) -> None:
        """Remember a hash; it reaches the file with others, so that no lock is held while files are read."""
        self._pending.append((*stamp, digest))
        if len(self._pending) >= _FLUSH_ROWS or time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._flush()

    def close(self) -> None:
        """Write what is pending and let go of the file."""
        self._flush()
        if self._connection is not None:
            self._connection.close()

    def _flush(self) -> None:
        if self._connection is not None and self._pending:
            try:
                with self._connection:
                    self._connection.executemany(_KEEP, self._pending)
            except sqlite3.Error as error:
                self._give_up(error)
        self._pending.clear()
        self._flushed = time.monotonic()

    def _give_up(self, error: Exception) -> None:
        log.warning("%s cannot be used (%s): files are read again each time", self.path, error)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
