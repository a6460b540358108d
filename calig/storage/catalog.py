"""Which objects are in force: `CURRENT` names the index, the index a list for each unit, a list the unit's files.

::

    CURRENT                                          holder, epoch, and the names of what is in force (`lease`)
    index/<epoch>-<beat>-<nonce>.json                unit → its list; what the one before it named and it does not
    lists/<unit>/<epoch>-<beat>-<nonce>.json         file → its object
    tombstones/<epoch>-<beat>-<nonce>.json           objects that are deleted, or are about to be, and since when
    database/<epoch>-<beat>-<nonce>.duckdb
    objects/<file>/<epoch>-<beat>-<nonce>            a file of which there may be several in the course of time
    objects/<file>/<sha256>-<nonce>                  a file of a shard or a corpus: written without the lease

A unit is what changes together: a run, a corpus, an attribution key, an evaluation, the tags, …. All names but
`CURRENT` are written once. A change writes its objects, the unit's list and the index, and then sets `CURRENT`: it is
in force as a whole or not at all.

Shards come from workers, who have no lease: a shard counts once its unit's list names it, and of two that hold the same
row the first that was named. A deletion writes the names into the tombstones, in the same change that takes them from
their list, and then deletes: a name among them is never named again, so that a deletion that comes late hits what is
dead. They are kept for `TOMBSTONE_SECONDS` by the store's clock, which is longer than any request is under way.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from calig.storage.lease import Current, Lease, read_current
from calig.storage.store import Store

TOMBSTONE_SECONDS = 7 * 86_400.0
OBJECTS = "objects"


class Ref(NamedTuple):
    """An object and its ETag: what a file of the warehouse is at present."""

    object: str
    tag: str


Refs = Mapping[str, Ref]
"""File, relative to the warehouse → its object."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A whole shard that a worker has written: its files, and the names of the shards it was merged from."""

    name: str
    files: Refs
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Index:
    """What an index object holds: unit → list, and objects that were in force before and are to be deleted."""

    units: Mapping[str, str]
    superseded: Sequence[str] = ()


class Catalog:
    """What is in force in a store.

    Parameters
    ----------
    store
        The store.
    is_shared
        Whether a file is one that workers write without the lease, so that its deletion needs a tombstone.
    """

    def __init__(self, store: Store, is_shared: Callable[[str], bool]) -> None:
        self.store = store
        self._is_shared = is_shared
        self._indexes: dict[str, Index] = {}
        self._lists: dict[str, tuple[str, Refs]] = {}
        self._tombstones: tuple[str, Mapping[str, datetime]] = ("", {})

    def read(self, wanted: Callable[[str], bool]) -> tuple[Current, dict[str, Refs]] | None:
        """Return what is in force: `CURRENT`, and the files of the wanted units; None if there is no `CURRENT`."""
        while True:
            current, _ = read_current(self.store)
            if current is None:
                return None
            try:
                units = self.index(current).units
                return current, {unit: self.files(current, unit) for unit in units if wanted(unit)}
            except FileNotFoundError:  # superseded and deleted since `CURRENT` was read
                if self._is_in_force(current):
                    raise

    def index(self, current: Current) -> Index:
        """Return the index that `CURRENT` names."""
        if current.index is None:
            return Index({})
        found = self._indexes.get(current.index)
        if found is None:
            value = json.loads(self.store.read(current.index)[0])
            found = Index(value["units"], value["superseded"])
            self._indexes = {current.index: found}
        return found

    def files(self, current: Current, unit: str) -> Refs:
        """Return the files of a unit; none if it is not there."""
        name = self.index(current).units.get(unit)
        if name is None:
            return {}
        known, files = self._lists.get(unit, ("", {}))
        if known != name:
            value = json.loads(self.store.read(name)[0])
            files = {file: Ref(*ref) for file, ref in value.items()}
            self._lists[unit] = name, files
        return files

    def tombstones(self, current: Current) -> Mapping[str, datetime]:
        """Return the objects that may not be named again, and when they were put among the tombstones."""
        if current.tombstones is None:
            return {}
        known, found = self._tombstones
        if known != current.tombstones:
            value = json.loads(self.store.read(current.tombstones)[0])
            found = {name: datetime.fromisoformat(since) for name, since in value.items()}
            self._tombstones = current.tombstones, found
        return found

    def write_initial(self, units: Mapping[str, Refs], database: str | None) -> Current:
        """Write lists and an index of what is there before there is a `CURRENT`; return what that is to say."""
        lists = {unit: self._write(f"lists/{unit}", _tag(Current()), files) for unit, files in units.items()}
        index = self._write("index", _tag(Current()), {"units": lists, "superseded": []})
        return Current(database=database, index=index)

    def publish(
        self,
        lease: Lease,
        changes: Mapping[str, Refs],
        *,
        database: str | None = None,
        dead: Iterable[str] = (),
    ) -> None:
        """Put changed units in force.

        Parameters
        ----------
        lease
            The lease, which must be held.
        changes
            Unit → all its files; none: the unit goes.
        database
            The object of a new database.
        dead
            Objects that no list names and that are to be deleted as well.

        Raises
        ------
        LeaseLostError
            If the lease was lost: then nothing of this is in force.
        """
        current = lease.current
        index = self.index(current)
        # not before: whoever read the last index may still have fetched them
        self.store.delete(index.superseded)
        tag = _tag(current)
        units, superseded, going = dict(index.units), [], set(dead)
        for unit, files in changes.items():
            before = self.files(current, unit)
            kept = {ref.object for ref in files.values()}
            for file, ref in before.items():
                if ref.object not in kept:
                    gone = file not in files or self._is_shared(file)
                    going.add(ref.object) if gone else superseded.append(ref.object)
            if unit in units:
                superseded.append(units.pop(unit))
            if files:
                units[unit] = self._write(f"lists/{unit}", tag, files)
        superseded += [name for name in (current.index, database and current.database) if name]
        tombstones = current.tombstones
        if going:
            tombstones = self._bury(current, tag, going)
            superseded += [current.tombstones] if current.tombstones else []
        value = {"units": units, "superseded": superseded}
        new = self._write("index", tag, value)
        lease.publish(index=new, database=database or current.database, tombstones=tombstones)
        self._indexes = {new: Index(units, superseded)}
        for unit, files in changes.items():
            self._lists.pop(unit, None)
            if files:
                self._lists[unit] = units[unit], dict(files)
        self.store.delete(sorted(going))

    def name_shards(
        self,
        lease: Lease,
        unit: str,
        shards: Iterable[Shard],
        shard_of: Callable[[str], str | None],
        overlapping: Callable[[Shard, Sequence[Shard]], bool],
    ) -> tuple[list[Shard], list[Shard]]:
        """Have whole shards count, in this order; what cannot count any more is deleted.

        Parameters
        ----------
        lease
            The lease, which must be held.
        unit
            Their unit.
        shards
            The shards; those among the tombstones are passed over.
        shard_of
            The shard that a file belongs to; None for other files.
        overlapping
            Whether a shard holds a row that one of the others holds.

        Returns
        -------
        The shards that count now, and those that were refused: their name or a row of theirs counts already, or what
        they were merged from does not.
        """
        current = lease.current
        files = dict(self.files(current, unit))
        tombstones = self.tombstones(current)
        named: dict[str, Shard] = {}
        for file, ref in files.items():
            if name := shard_of(file):
                known = named.get(name, Shard(name, {}))
                named[name] = Shard(name, {**known.files, file: ref})
        accepted, refused = [], []
        for shard in shards:
            if any(ref.object in tombstones for ref in shard.files.values()):
                continue
            others = [other for name, other in named.items() if name not in shard.replaces]
            merged = all(name in named for name in shard.replaces)
            if shard.name in named or not merged or overlapping(shard, others):
                refused.append(shard)
                continue
            for name in shard.replaces:
                for file in named.pop(name).files:
                    del files[file]
            named[shard.name] = shard
            files.update(shard.files)
            accepted.append(shard)
        if accepted or refused:
            kept = {ref.object for ref in files.values()}
            dead = {ref.object for shard in refused for ref in shard.files.values()} - kept
            self.publish(lease, {unit: files} if accepted else {}, dead=dead)
        return accepted, refused

    def _bury(self, current: Current, tag: str, names: Iterable[str]) -> str:
        """Write the tombstones with these names added, and those of long ago left out; return their object."""
        clock = self._write(f"probes/{tag}", "now", {})
        now = self.store.list(f"probes/{tag}/")[0].written
        self.store.delete([clock])
        limit = now - timedelta(seconds=TOMBSTONE_SECONDS)
        there = self.tombstones(current)
        old = [name for name, since in there.items() if since < limit]
        self.store.delete(old)  # those whose deletion was cut off
        kept = {name: since for name, since in there.items() if since >= limit}
        value = {name: since.isoformat() for name, since in {**kept, **dict.fromkeys(names, now)}.items()}
        return self._write("tombstones", tag, value)

    def _write(self, folder: str, tag: str, value: Any) -> str:
        name = f"{folder}/{tag}.json"
        self.store.put(name, json.dumps(value).encode())
        return name

    def _is_in_force(self, current: Current) -> bool:
        now, _ = read_current(self.store)
        return now is not None and now.in_force == current.in_force


def _tag(current: Current) -> str:
    """Return a name that no other change has, and that says whose it is."""
    return f"{current.epoch:09d}-{current.beat:09d}-{secrets.token_hex(4)}"


def object_name(lease: Lease, file: str) -> str:
    """Return the name of a new object for a file that is written under a lease."""
    return f"{OBJECTS}/{file}/{_tag(lease.current)}"


def database_name(lease: Lease) -> str:
    """Return the name of a new object for the database."""
    return f"database/{_tag(lease.current)}.duckdb"
