"""A store on S3, GCS or Azure, through obstore.

obstore is chosen because it does compare-and-set on all three, while s3fs has no write that depends on an object's
version; and for the rest too, since it takes less CPU and, with large files, a third of the memory of s3fs
(tests/benchmarks/results/storage.md).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import from_url

from calig.errors import InputError, first_line
from calig.storage.store import Entry, StoreError, Version

RETRIES: Any = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=120),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=8),
        "base": 2.0,
    },
}
TIMEOUTS: Any = {"connect_timeout": "10s", "timeout": "300s"}
CHUNK = 8 * 2**20
"""Bytes in memory of a file on its way to or from a store; larger files go up in parts of this size."""


class ObjectStore:
    """Objects below a URL; see `calig.storage.store.Store`.

    Credentials, endpoint and region are those that the environment or the profile of AWS's tools names.
    """

    def __init__(self, url: str) -> None:
        options = _s3_options() if url.startswith(("s3://", "s3a://")) else {}
        endpoint = str(options.get("endpoint") or "")
        client = TIMEOUTS | ({"allow_http": True} if endpoint.startswith("http://") else {})
        self.url = url
        try:
            self._store: Any = from_url(url, client_options=client, retry_config=RETRIES, **options)
        except (BaseError, ValueError) as error:
            raise InputError(
                f"warehouse {url}: no such store ({first_line(error)}); use a folder, s3://, gs:// or az://"
            ) from error

    def put(self, name: str, content: bytes | Path) -> str:
        """Write an object; return its ETag."""
        with _errors(name):
            return str(obstore.put(self._store, name, content, chunk_size=CHUNK, max_concurrency=4)["e_tag"])

    def put_if_absent(self, name: str, content: bytes) -> Version | None:
        """Write an object if there is none."""
        try:
            with _errors(name):
                return _version(obstore.put(self._store, name, content, mode="create", use_multipart=False))
        except AlreadyExistsError:
            return None

    def compare_and_set(self, name: str, content: bytes, version: Version) -> Version | None:
        """Write an object if it has this version."""
        mode: Any = dict(version)
        try:
            with _errors(name):
                return _version(obstore.put(self._store, name, content, mode=mode, use_multipart=False))
        except (PreconditionError, FileNotFoundError):
            return None

    def read(self, name: str) -> tuple[bytes, Version]:
        """Return an object's content and version."""
        with _errors(name):
            result = obstore.get(self._store, name)
            return bytes(result.bytes()), _version(result.meta)

    def download(self, name: str, path: Path) -> None:
        """Write an object's content to a file."""
        with _errors(name), path.open("wb") as file:
            for chunk in obstore.get(self._store, name).stream(min_chunk_size=CHUNK // 8):
                file.write(chunk)

    def list(self, prefix: str) -> list[Entry]:
        """Return the objects below a prefix."""
        with _errors(prefix):
            entries = [
                Entry(meta["path"], meta["size"], str(meta["e_tag"]), meta["last_modified"])
                for batch in obstore.list(self._store, prefix or None, chunk_size=1000)
                for meta in batch
            ]
        return sorted(entries, key=lambda entry: entry.name)

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, in requests of many."""
        found = list(names)
        with _errors("objects"):
            for first in range(0, len(found), 1000):
                obstore.delete(self._store, found[first : first + 1000])

    def age(self, name: str) -> float:
        """Return the seconds since an object was written, by the store's clock, which dates a probe too."""
        probe = f"probes/{secrets.token_hex(8)}"
        with _errors(name):
            written = obstore.head(self._store, name)["last_modified"]
            obstore.put(self._store, probe, b"")
            now = obstore.head(self._store, probe)["last_modified"]
            obstore.delete(self._store, probe)
        return (now - written).total_seconds()


def _version(meta: Any) -> Version:
    return {key: str(meta[key]) for key in ("e_tag", "version") if meta[key] is not None}


def _s3_options() -> dict[str, Any]:
    """What AWS's own tools would use: environment, profile, or the machine's role. Without botocore: environment."""
    try:
        from botocore.session import get_session
    except ImportError:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return {"endpoint": endpoint} if endpoint else {}
    session = get_session()
    region = session.get_config_variable("region")
    endpoint = (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or session.get_scoped_config().get("endpoint_url")
    )
    credentials = session.get_credentials()

    def provide() -> dict[str, Any]:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": getattr(credentials, "_expiry_time", None),
        }

    options = {"region": region, "endpoint": endpoint, "credential_provider": credentials and provide}
    return {key: value for key, value in options.items() if value}


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """Raise FileNotFoundError for what is not there, `StoreError` for what else fails."""
    try:
        yield
    except (AlreadyExistsError, PreconditionError):
        raise
    except (BaseError, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error):
            raise FileNotFoundError(name) from error
        raise StoreError(f"{name}: {first_line(error)}") from error
