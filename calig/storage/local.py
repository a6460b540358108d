"""A store that is a folder: writes are renamed into place, and conditional ones take a lock (flock) first.

Object stores compare and set on their servers; obstore's own store of a folder does not, so this one does it itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from calig.files import PART_SUFFIX, part_path, sync
from calig.storage.store import Entry, Version

LOCK = ".store.lock"


class LocalStore:
    """A folder as a store; see `calig.storage.store.Store`. The folder is created at the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, content: bytes | Path) -> str:
        """Write an object; return its ETag."""
        part = self._part(name, content)
        tag = _tag(part)
        self._rename(part, name)
        return tag

    def put_if_absent(self, name: str, content: bytes) -> Version | None:
        """Write an object if there is none."""
        with self._locked():
            if (self.root / name).exists():
                return None
            return {"e_tag": self.put(name, content)}

    def compare_and_set(self, name: str, content: bytes, version: Version) -> Version | None:
        """Write an object if it has this version."""
        with self._locked():
            path = self.root / name
            if not path.exists() or version != {"e_tag": _tag(path)}:
                return None
            return {"e_tag": self.put(name, content)}

    def read(self, name: str) -> tuple[bytes, Version]:
        """Return an object's content and version."""
        content = (self.root / name).read_bytes()
        return content, {"e_tag": hashlib.sha256(content).hexdigest()}

    def download(self, name: str, path: Path) -> None:
        """Write an object's content to a file."""
        shutil.copyfile(self.root / name, path)

    def list(self, prefix: str) -> list[Entry]:
        """Return the objects below a prefix."""
        entries = []
        for folder, _, names in os.walk(self.root / prefix):
            for path in (Path(folder) / name for name in names if not name.startswith(".")):
                try:
                    status = path.stat()
                except FileNotFoundError:  # deleted meanwhile
                    continue
                written = datetime.fromtimestamp(status.st_mtime, UTC)
                tag = f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"
                entries.append(Entry(path.relative_to(self.root).as_posix(), status.st_size, tag, written))
        return sorted(entries, key=lambda entry: entry.name)

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, and the folders that are empty then."""
        for name in names:
            path = self.root / name
            path.unlink(missing_ok=True)
            for parent in path.relative_to(self.root).parents[:-1]:
                try:
                    (self.root / parent).rmdir()
                except OSError:  # it holds other objects, or is gone
                    break

    def age(self, name: str) -> float:
        """Return the seconds since an object was written, by the clock that dates the folder's files."""
        written = (self.root / name).stat().st_mtime
        probe = self.root / f".{secrets.token_hex(4)}{PART_SUFFIX}"
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
        return now - written

    def _part(self, name: str, content: bytes | Path) -> Path:
        """Write the content to a temporary file at the root, whose folder nobody deletes for being empty."""
        self.root.mkdir(parents=True, exist_ok=True)
        part = part_path(self.root / Path(name).name)
        part.write_bytes(content) if isinstance(content, bytes) else shutil.copyfile(content, part)
        sync(part)
        return part

    def _rename(self, part: Path, name: str) -> None:
        path = self.root / name
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.replace(path)
                break
            except FileNotFoundError:  # a deletion took the empty folder away in between
                if not part.exists():
                    raise
        sync(path.parent)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / LOCK).open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _tag(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
