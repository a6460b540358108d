"""A warehouse on an object store: a mirror of it on this machine, kept in step file by file.

All work is done on the mirror, as on a local warehouse. A file that is finished there (renamed to its place) is
uploaded at once: so data are in the store before the manifest that names them, as on a disk. A store has no rename, but
a put is whole or not at all. The DuckDB file goes up under the next number, created only if nobody else did, so that no
writer overwrites another's; readers take the highest. Who may write is settled by lease objects, created in the same
way, renewed while their holder lives, and taken over when they are not; ages are by the store's clock alone.

The mirror lies under `$CALIG_CACHE` (default: `~/.cache/calig`) and may be deleted at any time when nobody uses it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calig.errors import InputError
from calig.files import part_path
from calig.listing import files_below
from calig.stores import cache_folder, changed, download, filesystem, mark, reachable
from calig.warehouse.layout import DATABASE

log = logging.getLogger(__name__)

LEASE_SECONDS = 120.0
"""Age beyond which a lease that was not renewed is its holder's no longer."""
DATABASES, LEASES, INDEX = "database", ".leases", ".mirror.json"
LIGHT = ("runs", "schedules", "types", "tags", "evaluations", "history")
"""What is fetched whole whenever a warehouse is opened; corpora and attributions are fetched when they are wanted."""


@dataclass(slots=True, eq=False)
class Mirror:
    """What of a warehouse at `url` lies in the folder `root`.

    Use `Mirror.of`, once in a process: each one looks at what the store has.
    """

    url: str
    root: Path
    files: Any
    base: str
    known: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    guard: Any = field(default_factory=threading.RLock)

    @classmethod
    def of(cls, url: str) -> Mirror:
        """The mirror of a URL, with what the store has.

        Raises
        ------
        InputError
            If the store cannot be used or reached.
        """
        url = url.rstrip("/")
        files, base = filesystem(url, "warehouse")
        root = cache_folder(url, "warehouses").resolve()
        root.mkdir(parents=True, exist_ok=True)
        mirror = cls(url, root, files, base.rstrip("/"))
        mirror._adopt()
        with reachable(url):
            mirror.fetch(*LIGHT)
            mirror.fetch_database()
            mirror._catch_up()
        return mirror

    def fetch(self, *prefixes: str) -> None:
        """Make the mirror hold what the store has under these prefixes, and nothing that was deleted there."""
        with self.guard:
            self._adopt()  # before the store is listed: it has all that the others know
            for prefix in prefixes:
                self._fetch(prefix)
            self._remember()

    def _fetch(self, prefix: str) -> None:
        there = self._listing(prefix)
        wanted = {
            name: mark
            for name, mark in there.items()
            if self.known.get(name) != mark or not (self.root / name).is_file()
        }
        parts = {name: part_path(self.root / name) for name in wanted}
        for part in parts.values():
            part.parent.mkdir(parents=True, exist_ok=True)
        try:
            if parts:
                self.files.get(
                    [f"{self.base}/{name}" for name in parts], [str(part) for part in parts.values()]
                )
            for name in sorted(parts, key=lambda name: "manifest" in name):
                parts[name].replace(self.root / name)
                self.known[name] = wanted[name]
        finally:
            for part in parts.values():
                part.unlink(missing_ok=True)
        for name in [n for n in self.known if n.startswith(f"{prefix}/") and n not in there]:
            self._forget(name)
            (self.root / name).unlink(missing_ok=True)

    def publish(self, path: Path) -> None:
        """Upload a finished file of the mirror."""
        name = path.relative_to(self.root).as_posix()
        if name == DATABASE:
            self._publish_database(path)
            return
        self.files.put_file(str(path), f"{self.base}/{name}")
        with self.guard:
            self.known[name] = mark(self._info(f"{self.base}/{name}"))
            self._remember()

    def _catch_up(self) -> None:
        """Upload what was finished here and is not in the store: a writer was killed, or cut off, in between."""
        unknown = {
            path.relative_to(self.root).as_posix(): path
            for folder in (*LIGHT, "corpora", "attributions")
            for path in files_below(self.root / folder)
            if not path.name.endswith(".damaged")
            if not any(part.startswith(".") for part in path.relative_to(self.root).parts)
        }
        unknown = {name: path for name, path in unknown.items() if name not in self.known}
        there = self._listing("") if unknown else {}  # which is long
        for name, path in sorted(unknown.items(), key=lambda item: ("manifest" in item[1].name, item)):
            if name not in there:
                self.publish(path)

    def delete(self, path: Path) -> None:
        """Delete from the store what was deleted from the mirror: a file, or a folder with all that is in it."""
        name = path.relative_to(self.root).as_posix()
        with suppress(FileNotFoundError):
            self.files.rm(f"{self.base}/{name}", recursive=True)
        with self.guard:
            for gone in [n for n in self.known if n == name or n.startswith(f"{name}/")]:
                self._forget(gone)
            self._remember()

    def fetch_database(self) -> None:
        """Make the mirror's DuckDB file the newest one of the store."""
        with self.guard:
            newest = max(self._listing(DATABASES), default=None)
            if newest is not None and self.known.get(DATABASE) != newest:
                download(self.files, f"{self.base}/{newest}", self.root / DATABASE)
                self.known[DATABASE] = newest
                self._remember()

    def _publish_database(self, path: Path) -> None:
        with self.guard:
            base = self.known.get(DATABASE, f"{DATABASES}/{0:09d}.duckdb")
            number = int(Path(base).stem) + 1
            name = f"{DATABASES}/{number:09d}.duckdb"
            try:
                self.files.put_file(str(path), f"{self.base}/{name}", mode="create")
            except FileExistsError as error:
                if (
                    self.files.cat_file(f"{self.base}/{name}") != path.read_bytes()
                ):  # else our answer got lost
                    raise InputError(
                        f"warehouse {self.url}: another writer was faster; run the same command again"
                    ) from error
            self.known[DATABASE] = name
            self._remember()
            for old in sorted(self._listing(DATABASES))[:-2]:
                self.files.rm_file(f"{self.base}/{old}")

    @contextmanager
    def lease(self, name: str, wait: float) -> Iterator[None]:
        """Be the only one, on any machine, who holds the lease of this name within the `with` block.

        Raises
        ------
        InputError
            If another one holds it for longer than `wait` seconds; names the holder.
        """
        path = f"{self.base}/{LEASES}/{name}.json"
        own = json.dumps(
            {"holder": f"pid {os.getpid()} on {socket.gethostname()}", "token": secrets.token_hex(8)}
        )
        deadline = time.monotonic() + wait
        while not self._create(path, own):
            if self._take_over(path):
                continue
            if time.monotonic() >= deadline:
                holder = self._holder(path)
                raise InputError(
                    f"warehouse {self.url}: another writer is at work ({holder}); try again later"
                )
            time.sleep(min(1.0, LEASE_SECONDS / 10))
        done = threading.Event()

        def renew() -> None:
            while not done.wait(LEASE_SECONDS / 4):
                try:
                    self.files.pipe_file(path, own.encode())
                except OSError as error:
                    log.warning("the lease of %s could not be renewed: %s", name, error)

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            with suppress(FileNotFoundError):
                if self.files.cat_file(path).decode() == own:
                    self.files.rm_file(path)

    def _create(self, path: str, content: str) -> bool:
        """Put an object if there is none; whether it was."""
        try:
            self.files.pipe_file(path, content.encode(), mode="create")
        except FileExistsError:
            with suppress(FileNotFoundError):
                return bool(content) and self.files.cat_file(path).decode() == content  # our answer got lost
            return False
        return True

    def _take_over(self, path: str) -> bool:
        """Delete a lease that its holder no longer renews; of several who see that, one does. Whether it did."""
        with suppress(FileNotFoundError):
            age, content = self._age(path), self.files.cat_file(path)
            if age > LEASE_SECONDS:
                claim = f"{path}.{hashlib.sha256(content).hexdigest()[:16]}"
                if self._create(claim, "") and self.files.cat_file(path) == content:
                    self.files.rm_file(path)
                    self.files.rm_file(claim)
                    return True
        return False

    def leased(self, name: str) -> bool:
        """Whether somebody holds the lease of this name, and lives."""
        try:
            return self._age(f"{self.base}/{LEASES}/{name}.json") <= LEASE_SECONDS
        except FileNotFoundError:
            return False

    def _age(self, path: str) -> float:
        """Seconds since a lease was renewed, by the store's clock; FileNotFoundError if there is none."""
        renewed = changed(self._info(path))
        probe = f"{path}.{secrets.token_hex(4)}"
        self.files.pipe_file(probe, b"")
        now = changed(self._info(probe))
        self.files.rm_file(probe)
        return (now - renewed).total_seconds()

    def _holder(self, path: str) -> str:
        try:
            return str(json.loads(self.files.cat_file(path))["holder"])
        except (OSError, ValueError, KeyError):
            return "it has just started"

    def _listing(self, prefix: str) -> dict[str, str]:
        """Name → mark of the objects under a prefix, as they are now."""
        self.files.invalidate_cache()
        found: Mapping[str, Any] = self.files.find(f"{self.base}/{prefix}", detail=True)
        return {path.removeprefix(f"{self.base}/"): mark(info) for path, info in found.items()}

    def _info(self, path: str) -> Mapping[str, Any]:
        self.files.invalidate_cache()
        info: Mapping[str, Any] = self.files.info(path)
        return info

    def _forget(self, name: str) -> None:
        del self.known[name]
        self.gone.add(name)

    def _adopt(self) -> None:
        """Know what other processes of this machine, which work on the same mirror, have put there."""
        for name, of_store in self._index().items():
            if name not in self.known and (self.root / name).is_file():
                self.known[name] = of_store

    def _index(self) -> dict[str, str]:
        with suppress(FileNotFoundError, ValueError):
            index: dict[str, str] = json.loads((self.root / INDEX).read_text())
            return index
        return {}

    def _remember(self) -> None:
        """Write down what is known here, beside what other processes wrote down."""
        with (self.root / f"{INDEX}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            others = {name: of_store for name, of_store in self._index().items() if name not in self.gone}
            self.gone.clear()
            part = part_path(self.root / INDEX)
            part.write_text(json.dumps(others | self.known))
            part.replace(self.root / INDEX)
