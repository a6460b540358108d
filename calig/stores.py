"""Object stores, through fsspec: how they are opened, what they say of an object, and where copies lie here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from calig.errors import InputError, first_line
from calig.files import part_path

OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": 10,
            "read_timeout": 60,
            "retries": {"mode": "adaptive", "max_attempts": 8},
        }
    }
}

CONTENT_MARKS = ("ETag", "etag", "md5Hash", "content_md5", "crc32c")
"""What stores call that by which an object's content is known."""


def cache_home() -> Path:
    """Return the folder on this machine for what can be made again: `$CALIG_CACHE`, else `~/.cache/calig`."""
    return Path(os.environ.get("CALIG_CACHE") or "~/.cache/calig").expanduser()


def cache_folder(url: str, kind: str) -> Path:
    """Return the folder on this machine that holds copies of what is at `url`."""
    return cache_home() / kind / hashlib.sha256(url.encode()).hexdigest()[:24]


def filesystem(url: str, what: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path in it.

    Raises
    ------
    InputError
        If the scheme is unknown, or its package is not installed; `what` says what the URL is of.
    """
    import fsspec

    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url, **OPTIONS.get(url.partition("://")[0], {}))
    except (ImportError, ValueError) as error:
        raise InputError(f"{what} {url}: {error}; for s3:// pip install 'calig[s3]'") from error
    return found


def download(files: Any, name: str, place: Path) -> None:
    """Copy an object to a place on this machine, which has its old content or all of the new."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(place)
    try:
        files.get_file(name, str(part))
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def mark(info: Mapping[str, Any]) -> str:
    """What tells one content of an object from another: the store's ETag or, where it has none, all that it says."""
    return content_mark(info) or f"{info['size']} {changed(info)} {info.get('ino')} {info.get('created')}"


def content_mark(info: Mapping[str, Any]) -> str | None:
    """What a store says of an object's content; None where it says only how large and how old it is.

    The ETag of a web server is None too: most make it of size and time.
    """
    if str(info.get("name")).startswith(("http://", "https://")):
        return None
    return next((str(info[key]) for key in CONTENT_MARKS if info.get(key)), None)


def changed(info: Mapping[str, Any]) -> datetime:
    """When an object was written, by the store's clock."""
    for key in ("LastModified", "last_modified", "created", "mtime"):
        if info.get(key) is not None:
            value = info[key]
            return value if isinstance(value, datetime) else datetime.fromtimestamp(float(value), UTC)
    raise InputError(f"the store does not say when {info.get('name')} was written: it cannot be used")


@contextmanager
def reachable(url: str) -> Iterator[None]:
    """Turn what a store refuses into one line."""
    errors: tuple[type[Exception], ...] = (OSError, *_client_errors())
    try:
        yield
    except errors as error:
        raise InputError(
            f"{url}: the store cannot be used ({first_line(error)}); check the bucket's name, the credentials and the "
            "endpoint"
        ) from error


def _client_errors() -> tuple[type[Exception], ...]:
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        return ()
    return (BotoCoreError, ClientError)
