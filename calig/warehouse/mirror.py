"""A warehouse on an object store: a mirror of it on this machine, kept in step file by file.

All work is done on the mirror, as on a local warehouse. A file that is finished there (renamed to its place) is
published at once. Names in the store are written once; what is in force there is settled by `calig.storage`:

- Shards and the parts of corpora are uploaded without the lease. A corpus is in force once its manifest is published, a
  shard once whoever counts on shards has had it named (`calig.warehouse.shared`).
- Everything else is put in force at once, one file after another, within the lease or, outside of a `with` block that
  holds it, by taking it for that. One by one, since a kill in between then leaves what it leaves on a disk, which is
  what the order of the writes (data before the manifest, the merged before what it replaces) is made for.
- A file that another machine changed or deleted since it was fetched here is not overwritten.

A warehouse of a calig before this protocol has no `CURRENT`. It is read as it is; the first write makes a `CURRENT`
that names all that is there. From then on, earlier versions must not write to it: they do not know of the lease.

The mirror lies under `$CALIG_CACHE` (default: `~/.cache/calig`) and may be deleted at any time when nobody uses it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import secrets
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from calig.errors import InputError
from calig.files import part_path, sha256_file
from calig.listing import files_below
from calig.storage.catalog import OBJECTS, Catalog, Ref, Refs, database_name, object_name
from calig.storage.lease import Current, Lease, LeaseLostError, read_current
from calig.storage.store import Store, open_store
from calig.stores import cache_folder, reachable
from calig.warehouse.gathering import PUBLISH_SECONDS, gather, name_shards
from calig.warehouse.layout import DATABASE
from calig.warehouse.leases import Leases, advisory_name
from calig.warehouse.mirror_state import Held, State, changing_state, read_state, stamp
from calig.warehouse.pins import unpinned
from calig.warehouse.shards import ShardManifest
from calig.warehouse.shared import SHARDED, is_manifest, is_shared, shard_from, shard_of, unit_of

log = logging.getLogger(__name__)

LIGHT = ("runs", "schedules", "types", "tags", "evaluations", "history")
"""What is fetched whole whenever a warehouse is opened; corpora and attributions are fetched when they are wanted."""
DOWNLOADS = 8


class Mirror:
    """What of a warehouse at `url` lies in the folder `root`.

    Use `Mirror.of`, once in a process: each one looks at what the store has.
    """

    def __init__(self, url: str, root: Path, store: Store) -> None:
        self.url, self.root, self.store = url, root, store
        self.catalog = Catalog(store, is_shared)
        with changing_state(root) as state:
            machine = f"{socket.gethostname()}/{state.mirror}"
        self.leases = Leases(url, root, store, machine, self._first)
        self._gathers = False

    @classmethod
    def of(cls, url: str, write: bool = False) -> Mirror:
        """The mirror of a URL, with what the store has.

        Parameters
        ----------
        url
            The URL.
        write
            Whether it is opened for writing: what a killed process of this machine has finished and not published is
            published now, and the shards that workers have finished are named where they are fetched.

        Raises
        ------
        InputError
            If the store cannot be used or reached; with `write`, if it has no conditional writes.
        """
        url = url.rstrip("/")
        store = open_store(url)
        root = cache_folder(url, "mirrors").resolve()
        root.mkdir(parents=True, exist_ok=True)
        mirror = cls(url, root, store)
        with reachable(url):
            if write:
                mirror.leases.check_store()
            mirror.fetch(*LIGHT)
            mirror.fetch_database()
            if write:
                mirror._catch_up()
                mirror._gathers = True
        return mirror

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in the store."""
        state = read_state(self.root)
        return not state.files and state.database is None

    def fetch(self, *prefixes: str) -> None:
        """Make the mirror hold what is in force under these prefixes, and nothing that was deleted there."""
        if self._gathers:
            gather(self, prefixes)
        self.fetch_named(*prefixes)

    def fetch_named(self, *prefixes: str) -> None:
        """Fetch what is in force, without naming what is not."""
        while True:
            state = read_state(self.root)  # before the store: what others of this machine add meanwhile stays
            current, refs = self._in_force(prefixes)
            try:
                self._bring(refs, prefixes, current, state)
                return
            except FileNotFoundError:  # deleted since it was looked up
                if self._in_force(prefixes)[0] == current:
                    raise

    def counted(self, prefix: str) -> set[str]:
        """Return the files under a prefix, relative to it, that were in force when it was last fetched."""
        files = read_state(self.root).files
        below = f"{prefix}/"
        return {
            file.removeprefix(below) for file, held in files.items() if held.named and file.startswith(below)
        }

    def publish(self, path: Path) -> None:
        """Upload a finished file of the mirror, and put it in force.

        Raises
        ------
        InputError
            If another machine has changed or deleted it since it was fetched, or the right to write was lost.
        """
        file = self._file(path)
        if file == DATABASE:
            self._publish_database(path)
        elif is_shared(file):
            self._publish_shared(path, file)
        else:
            self._publish_plain(path, file)

    def delete(self, path: Path) -> None:
        """Delete from the store what was deleted from the mirror: a file, or a folder with all that is in it."""
        name = self._file(path)
        held = {
            file: entry
            for file, entry in read_state(self.root).files.items()
            if file == name or file.startswith(f"{name}/")
        }
        if not held:
            return
        with self.leases.writing(PUBLISH_SECONDS) as lease:
            changes: dict[str, Refs] = {}
            gone: set[str] = set()
            for unit in sorted({unit_of(file) for file in held}):
                before = self.catalog.files(lease.current, unit)
                shards = {shard_of(file) for file in held if is_manifest(file)}  # which go as a whole
                going = {file for file in before if file in held or shard_of(file) in shards}
                after = {file: ref for file, ref in before.items() if file not in going}
                if name == unit:
                    after = {}
                if len(after) != len(before):
                    changes[unit] = after
                    gone |= before.keys() - after.keys()
            dead = {entry.object for entry in held.values() if not entry.named}
            if name.startswith(SHARDED) and name in changes:
                dead |= {entry.name for entry in self.store.list(f"{OBJECTS}/{name}/")}
            if name.startswith("runs/") and name in changes:
                dead.add(advisory_name(f"run-{path.name}"))
            self.catalog.publish(lease, changes, dead=dead)
        with changing_state(self.root) as state:
            for file in [file for file in state.files if file in held or file in gone]:
                del state.files[file]

    def fetch_database(self) -> None:
        """Make the mirror's DuckDB file the one that is in force."""
        while True:
            found, _ = read_current(self.store)
            name = found.database if found else self._old_database()
            if name is None or read_state(self.root).database == name:
                return
            try:
                self._download(name, self.root / DATABASE)
            except FileNotFoundError:
                if read_current(self.store)[0] == found:
                    raise
                continue
            with changing_state(self.root) as state:
                state.database = name
            return

    @contextmanager
    def lease(self, name: str, wait: float) -> Iterator[None]:
        """Be the only one, on any machine, who holds the lease of this name within the `with` block.

        `database` and `runs` are the one lease on which all writing rests; what is in force is fetched then. Others
        are advisory.

        Raises
        ------
        InputError
            If another one holds it for longer than `wait` seconds; names the holder.
        """
        if name not in ("database", "runs"):
            with self.leases.advisory(name, wait):
                yield
            return
        with self.leases.writing(wait):
            self.fetch(*LIGHT)
            self.fetch_database()
            yield

    def leased(self, name: str) -> bool:
        """Whether somebody holds the advisory lease of this name, and lives."""
        return self.leases.is_held(name)

    def _file(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    # -- reading

    def _in_force(self, prefixes: Iterable[str]) -> tuple[Current | None, dict[str, Ref]]:
        """What is in force under these prefixes: of a warehouse without `CURRENT`, what is there."""
        wanted = tuple(f"{prefix}/" for prefix in prefixes)
        found = self.catalog.read(
            lambda unit: any(f"{unit}/".startswith(p) or p.startswith(f"{unit}/") for p in wanted)
        )
        current, units = found or (None, self._old_units(wanted))
        refs = {
            file: ref for files in units.values() for file, ref in files.items() if file.startswith(wanted)
        }
        return current, refs

    def _old_units(self, prefixes: Iterable[str]) -> dict[str, Refs]:
        """The files of a warehouse of before there was a `CURRENT`, by unit."""
        units: dict[str, dict[str, Ref]] = {}
        for prefix in prefixes:
            for entry in self.store.list(prefix):
                if not any(part.startswith(".") for part in entry.name.split("/")):
                    units.setdefault(unit_of(entry.name), {})[entry.name] = Ref(entry.name, entry.tag)
        return {unit: dict(files) for unit, files in units.items()}

    def _old_database(self) -> str | None:
        return max((entry.name for entry in self.store.list("database/")), default=None)

    def _first(self) -> Current:
        """What `CURRENT` is to say when there is none: all that is there."""
        units = self._old_units(f"{folder}/" for folder in (*LIGHT, "corpora", "attributions"))
        return self.catalog.write_initial(units, self._old_database())

    def _bring(self, refs: Refs, prefixes: Iterable[str], current: Current | None, seen: State) -> None:
        """Make the mirror, which held what was `seen`, hold these files; shards that are not named yet stay."""
        below = tuple(f"{prefix}/" for prefix in prefixes)
        wanted = {
            file: ref
            for file, ref in refs.items()
            if (held := seen.files.get(file)) is None or held.ref != ref or not (self.root / file).is_file()
        }
        parts = {file: part_path(self.root / file) for file in wanted}
        try:
            for part in parts.values():
                part.parent.mkdir(parents=True, exist_ok=True)
            if wanted:
                with ThreadPoolExecutor(DOWNLOADS) as pool:
                    list(pool.map(lambda file: self.store.download(wanted[file].object, parts[file]), wanted))
            others = {f: held for f, held in seen.files.items() if f.startswith(below) and f not in refs}
            unnamed = any(not held.named for held in others.values())
            dead = self.catalog.tombstones(current) if current and unnamed else {}
            gone = [file for file, held in others.items() if held.named or held.object in dead]
            late = [file for file in refs if file not in wanted and not seen.files[file].named]
            if not wanted and not gone and not late:
                return
            with changing_state(self.root) as state:
                same = {
                    file for file in (*parts, *late, *gone) if state.files.get(file) == seen.files.get(file)
                }
                for file in sorted(same.intersection(parts), key=_manifests_last):
                    self._tell_if_unpublished(file, state.files.get(file))
                    parts[file].replace(self.root / file)
                    state.files[file] = Held(*wanted[file], True, stamp(self.root / file))
                for file in same.intersection(late):
                    state.files[file] = Held(*refs[file], True, state.files[file].stamp)
                for file in sorted(same.intersection(gone), key=_manifests_last, reverse=True):
                    with unpinned(self.root.joinpath(*Path(file).parts[:2])) as free:
                        if free:  # else it is being read: the next fetch deletes it
                            (self.root / file).unlink(missing_ok=True)
                            del state.files[file]
        finally:
            for part in parts.values():
                part.unlink(missing_ok=True)

    def _tell_if_unpublished(self, file: str, held: Held | None) -> None:
        path = self.root / file
        if not is_shared(file) and path.is_file() and (held is None or held.stamp != stamp(path)):
            log.warning(
                "warehouse %s: %s was changed from another machine meanwhile: what was written here is given up",
                self.url,
                file,
            )

    def _download(self, name: str, place: Path) -> None:
        part = part_path(place)
        try:
            self.store.download(name, part)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)

    # -- publishing

    def _publish_plain(self, path: Path, file: str) -> None:
        unit = unit_of(file)
        with self.leases.writing(PUBLISH_SECONDS) as lease:
            files = dict(self.catalog.files(lease.current, unit))
            if self._is_changed(lease, file, files, path):
                return
            name = object_name(lease, file)
            files[file] = Ref(name, self.store.put(name, path))
            self.catalog.publish(lease, {unit: files})
        self._remember({file: files[file]}, named=True)

    def _is_changed(self, lease: Lease, file: str, files: Refs, path: Path) -> bool:
        """Whether another machine has written the same; InputError if it wrote something else, or deleted it."""
        held = read_state(self.root).files
        base, there = held.get(file), files.get(file)
        unit = unit_of(file)
        if there is None:
            known = any(other.named for name, other in held.items() if unit_of(name) == unit)
            removed = "/" in unit and unit not in self.catalog.index(lease.current).units and known
            if (base is not None and base.named) or removed:
                raise InputError(
                    f"warehouse {self.url}: {file} was deleted from another machine meanwhile; run it again"
                )
            return False
        if base is not None and base.object == there.object:
            return False
        if self.store.read(there.object)[0] == path.read_bytes():
            self._remember({file: there}, named=True)
            return True
        if path.suffix == ".html":  # a page is made of what is in force, and can be made again
            return False
        raise InputError(
            f"warehouse {self.url}: {file} was changed from another machine meanwhile; run the same command again"
        )

    def _publish_shared(self, path: Path, file: str) -> None:
        name = f"{OBJECTS}/{file}/{sha256_file(path)[:16]}-{secrets.token_hex(8)}"
        self._remember({file: Ref(name, self.store.put(name, path))}, named=False)
        if file.startswith("corpora/") and path.name == "manifest.json":
            self._name_corpus(unit_of(file))
        elif is_manifest(file):
            manifest = ShardManifest.from_json(json.loads(path.read_bytes()))
            if (
                manifest.replaces
            ):  # what it replaces is deleted next, which must not be where it does not count
                self._name_merged(unit_of(file), manifest)

    def _name_corpus(self, unit: str) -> None:
        """Put a corpus in force: all that was uploaded of it."""
        held = read_state(self.root).files
        uploaded = {
            file: entry.ref for file, entry in held.items() if unit_of(file) == unit and not entry.named
        }
        with self.leases.writing(PUBLISH_SECONDS) as lease:
            self.catalog.publish(lease, {unit: {**self.catalog.files(lease.current, unit), **uploaded}})
        self._remember(uploaded, named=True)

    def _name_merged(self, unit: str, manifest: ShardManifest) -> None:
        held = read_state(self.root).files
        own = f"{unit}/manifest-{manifest.shard}.json"
        found = {file: entry.ref for file, entry in held.items() if unit_of(file) == unit}
        shard = shard_from(unit, manifest, found[own], found)
        refused = [shard] if shard is None else name_shards(self, unit, [shard])
        if refused:
            raise InputError(
                f"warehouse {self.url}: the shards of {unit} were changed from another machine meanwhile; run the same "
                "command again"
            )
        with changing_state(self.root) as state:
            for file in [f for f in state.files if unit_of(f) == unit and shard_of(f) in manifest.replaces]:
                del state.files[file]

    def _publish_database(self, path: Path) -> None:
        with self.leases.writing(PUBLISH_SECONDS) as lease:
            if read_state(self.root).database != lease.current.database:
                raise InputError(
                    f"warehouse {self.url}: another writer was faster; run the same command again"
                )
            name = database_name(lease)
            self.store.put(name, path)
            self.catalog.publish(lease, {}, database=name)
            with changing_state(self.root) as state:
                state.database = name

    def _remember(self, refs: Refs, named: bool) -> None:
        with changing_state(self.root) as state:
            for file, ref in refs.items():
                if (self.root / file).is_file():
                    state.files[file] = Held(*ref, named, stamp(self.root / file))

    def _catch_up(self) -> None:
        """Publish what was finished here and is not in the store: a writer was killed, or cut off, in between."""
        with (self.root / ".working").open("a") as working:  # see `Warehouse.at_rest`
            try:
                fcntl.flock(working, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            held = read_state(self.root).files
            unknown = {
                self._file(path): path
                for folder in (*LIGHT, "corpora", "attributions")
                for path in files_below(self.root / folder)
                if not path.name.endswith(".damaged")
                if not any(part.startswith(".") for part in path.relative_to(self.root).parts)
            }
            unknown = {
                file: path
                for file, path in unknown.items()
                if file not in held or (not is_shared(file) and held[file].stamp != stamp(path))
            }
            if not unknown:
                return
            refs = self._in_force(sorted({unit_of(file) for file in unknown}))[1]
            for file in sorted(unknown, key=_manifests_last):
                if is_shared(file) and file in refs:
                    continue  # another one has made it; it is fetched when it is wanted
                try:
                    self.publish(unknown[file])
                except LeaseLostError:
                    raise
                except InputError as error:
                    log.warning("%s: what was written here before is given up", error)
                    unknown[file].unlink()
                    with changing_state(self.root) as state:
                        state.files.pop(file, None)


def _manifests_last(file: str) -> tuple[bool, str]:
    return "manifest" in file.rpartition("/")[2], file
