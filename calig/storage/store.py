"""What a store can do, and how one is opened."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from calig.errors import InputError

Version = Mapping[str, str]
"""What a store says of an object's present content: its ETag and, on stores that count versions, the version."""


class StoreError(OSError):
    """A request failed: whether it was carried out is not known."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of a listing: its name, size in bytes, ETag, and when it was written by the store's clock."""

    name: str
    size: int
    tag: str
    written: datetime


class Store(Protocol):
    """A store of objects, opened once and passed on. Names are relative to its URL, with slashes.

    All methods raise `StoreError` when the store cannot be reached or refuses for good.
    """

    def put(self, name: str, content: bytes | Path) -> str:
        """Write an object, whole or not at all; return its ETag. A `Path` is a file on this machine."""

    def put_if_absent(self, name: str, content: bytes) -> Version | None:
        """Write an object if there is none of this name; return its version, or None if there is one."""

    def compare_and_set(self, name: str, content: bytes, version: Version) -> Version | None:
        """Write an object if it has this version; return its new one, or None if it has another or is not there."""

    def read(self, name: str) -> tuple[bytes, Version]:
        """Return an object's content and version; FileNotFoundError if there is none."""

    def download(self, name: str, path: Path) -> None:
        """Write an object's content to a file; FileNotFoundError if there is no object."""

    def list(self, prefix: str) -> list[Entry]:
        """Return the objects below a prefix, a folder's name with a slash at its end, or "" for all; by name."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are not there are passed over."""

    def age(self, name: str) -> float:
        """Return the seconds since an object was written, by the store's own clock; FileNotFoundError if none."""


def open_store(url: str) -> Store:
    """Open the store of a URL: a folder (file://), S3, GCS or Azure.

    Raises
    ------
    InputError
        If the scheme is unknown or the package for it is not installed.
    """
    if url.startswith("file://"):
        from calig.storage.local import LocalStore

        return LocalStore(Path(url.removeprefix("file://")))
    try:
        from calig.storage.object_store import ObjectStore
    except ImportError as error:
        raise InputError(f"warehouse {url}: {error}; pip install 'calig[s3]'") from error
    return ObjectStore(url)


def check_conditional_writes(store: Store, url: str) -> None:
    """Check that a store refuses a write whose condition does not hold, and carries out one whose condition holds.

    Raises
    ------
    InputError
        If it does not: two writers would overwrite each other.
    """
    name = f"probes/{secrets.token_hex(8)}"
    try:
        first = store.put_if_absent(name, b"1")
        fit = (
            first is not None
            and store.put_if_absent(name, b"2") is None
            and (second := store.compare_and_set(name, b"3", first)) is not None
            and store.compare_and_set(name, b"4", first) is None
            and store.read(name) == (b"3", second)
        )
    except StoreError as error:
        if "501" not in str(error) and "NotImplemented" not in str(error):
            raise
        fit = False
    finally:
        store.delete([name])
    if not fit:
        raise InputError(
            f"warehouse {url}: this store has no conditional writes (If-Match, If-None-Match): two writers would "
            "overwrite each other; it can be read, not written: use another store, or a folder"
        )
