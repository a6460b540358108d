"""A small world for the one-writer protocol: a store in memory, processes that freeze, wake and die, and their clocks.

Every request of a process is two steps: it arrives at the store, and its answer comes back. Between any two steps the
scheduler, whose choices are drawn from a seed, lets any other process go on, freezes one for up to ten times to live,
or kills one; an answer, or a request, may get lost. The processes run the real code of `calig.storage`, each in a
greenlet, with another for its heartbeat.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from greenlet import GreenletExit, getcurrent, greenlet

from calig.storage.catalog import OBJECTS, Catalog, Ref, Shard, object_name
from calig.storage.lease import CURRENT, Current, Lease, LeaseBusyError, LeaseLostError
from calig.storage.store import Entry, Store, StoreError, Version

SECONDS = 20.0
UNIT, NOTES = "attributions/k", "notes"
DOCUMENTS = 12


@dataclass(eq=False)
class Process:
    """What freezes and dies as one: a program and its heartbeat, and their clock."""

    name: str
    offset: float
    until: float = 0.0
    dead: bool = False
    threads: list[Thread] = field(default_factory=list)


class Surroundings(Protocol):
    """What a program sees of its world."""

    seconds: float
    rng: random.Random

    def store(self, process: Process) -> Store:
        """The store."""

    def start(self, process: Process, program: Callable[[], None]) -> None:
        """Start a thread."""

    def sleep(self, seconds: float) -> None:
        """Let the thread sleep."""

    def clock(self, process: Process) -> float:
        """The time."""

    def lock(self) -> AbstractContextManager[Any]:
        """A lock between threads."""

    def acknowledge(self, note: str) -> None:
        """Take down that a note is in force."""

    def check_lost(self, mine: Current) -> None:
        """Check that the lease was lost."""


@dataclass(eq=False)
class Thread:
    """A greenlet of a process, and until when it sleeps."""

    process: Process
    glet: greenlet
    until: float = 0.0


class World:
    """The scheduler, the store, and what was ever in force."""

    def __init__(
        self,
        seed: int,
        faults: float = 0.02,
        freezes: float = 0.02,
        kills: float = 0.003,
        seconds: float = SECONDS,
    ) -> None:
        self.rng = random.Random(seed)
        self.seconds = seconds
        self.faults, self.freezes, self.kills = faults, freezes, kills
        self.now = 0.0
        self.objects: dict[str, bytes] = {}
        self.written: dict[str, float] = {}
        self.threads: list[Thread] = []
        self.history: list[Current] = []
        self.noted: list[str] = []
        self.acknowledged: list[str] = []
        self.buried: set[str] = set()
        self.in_force: set[str] = set()
        self.takeovers = 0
        self.renewed = 0.0
        self.hub = getcurrent()
        self.over = False

    # -- the scheduler

    def start(self, process: Process, program: Callable[[], None]) -> None:
        """Start a thread of a process."""

        def run() -> None:
            with suppress(GreenletExit):
                program()

        thread = Thread(process, greenlet(run, self.hub))
        process.threads.append(thread)
        self.threads.append(thread)

    def step(self) -> None:
        """Let others go on before this thread does."""
        if self.over:
            raise GreenletExit
        self.hub.switch()
        if self.over:
            raise GreenletExit

    def sleep(self, seconds: float) -> None:
        """Let this thread sleep."""
        current = getcurrent()
        thread = next(thread for thread in self.threads if thread.glet is current)
        thread.until = self.now + seconds
        self.step()

    def run(self, most: int = 20_000) -> None:
        """Let the threads take steps until all have ended; a process that is stuck fails."""
        for _ in range(most):
            live = [thread for thread in self.threads if not thread.glet.dead and not thread.process.dead]
            if not live:
                return
            able = [thread for thread in live if max(thread.until, thread.process.until) <= self.now]
            if not able:
                self.now = min(max(thread.until, thread.process.until) for thread in live)
                continue
            thread = self.rng.choice(able)
            drawn = self.rng.random()
            if drawn < self.kills:
                thread.process.dead = True
                continue
            if drawn < self.kills + self.freezes:
                thread.process.until = self.now + self.rng.choice((1, 0.75, 3, 10)) * self.seconds
                continue
            self.now += self.rng.random() * 0.4
            thread.glet.switch()
        raise AssertionError(f"stuck: {[thread.process.name for thread in live]} are not done")

    def end(self) -> None:
        """Let go of what was killed or is left."""
        self.over = True
        for thread in self.threads:
            if not thread.glet.dead:
                thread.glet.throw(GreenletExit)

    # -- what a program sees of it

    def store(self, process: Process) -> MemoryStore:
        """The store, as a process sees it."""
        return MemoryStore(self, process)

    def clock(self, process: Process) -> float:
        """The process's clock."""
        return self.now + process.offset

    def lock(self) -> Lock:
        """A lock between the threads of a process."""
        return Lock(self)

    def acknowledge(self, note: str) -> None:
        """Take down that a process was told that its note is in force."""
        self.acknowledged.append(note)

    def check_lost(self, mine: Current) -> None:
        """Check that who was told that the lease was lost has lost it."""
        there = Current.from_bytes(self.objects[CURRENT])
        assert (there.epoch, there.writer) != (mine.epoch, mine.writer), "the lease was given up for nothing"

    # -- what must hold of the store

    def changed(self) -> None:
        """Check what has come into force by a write of `CURRENT`."""
        current = Current.from_bytes(self.objects[CURRENT])
        if self.history:
            before = self.history[-1]
            assert current.epoch >= before.epoch, "a stale writer came into force"
            same = current.epoch == before.epoch
            taken = current.epoch == before.epoch + 1 and current.in_force == before.in_force
            assert same or taken, "an epoch was passed over, or a take changed what is in force"
            if taken and before.writer is not None:
                assert self.now - self.renewed >= self.seconds, "taken from a holder that renewed in time"
                self.takeovers += 1
            assert not same or current.writer in (before.writer, None), "two writers in one epoch"
            if current.index != before.index:
                assert same
                assert int(str(current.index).split("/")[1].split("-")[0]) == current.epoch
        self.renewed = self.now
        self.history.append(current)
        before_in_force = self.in_force
        self.in_force = {name for name in (current.index, current.tombstones) if name}
        units: Mapping[str, Any] = {}
        if current.index:
            units = json.loads(self.objects[current.index])["units"]
        for name in units.values():
            files = json.loads(self.objects[name])
            self.in_force |= {name, *(ref[0] for ref in files.values())}
        self.buried |= {name for name in before_in_force - self.in_force if name.startswith(OBJECTS)}
        missing = self.in_force - self.objects.keys()
        assert not missing, f"in force, and not there: {missing}"
        revived = self.in_force & self.buried
        assert not revived, f"named again after it was deleted: {revived}"
        if current.tombstones:
            self.buried |= json.loads(self.objects[current.tombstones]).keys()
        assert not self.in_force & self.buried, "in force, and among the tombstones"
        self._check_documents(units)
        self._check_notes(units)

    def _check_documents(self, units: Mapping[str, str]) -> None:
        files = json.loads(self.objects[units[UNIT]]) if UNIT in units else {}
        rows = [
            row for file, ref in files.items() if "documents-" in file for row in _rows(self.objects[ref[0]])
        ]
        assert len(rows) == len(set(rows)), f"documents count twice: {sorted(rows)}"

    def _check_notes(self, units: Mapping[str, str]) -> None:
        """The notes are one file that writers add to: nothing that was ever in force may go."""
        if NOTES in units:
            [ref] = json.loads(self.objects[units[NOTES]]).values()
            notes = json.loads(self.objects[ref[0]])
            assert notes[: len(self.noted)] == self.noted, "a lost update"
            assert len(set(notes)) == len(notes), "an update twice"
            self.noted = notes
        else:
            assert not self.noted, "all updates were lost"


def _rows(content: bytes) -> list[int]:
    return [int(row) for row in json.loads(content)]


class MemoryStore:
    """The world's store, as one process sees it."""

    def __init__(self, world: World, process: Process) -> None:
        self.world, self.process = world, process

    @contextmanager
    def _request(self) -> Iterator[None]:
        """Two steps: the request arrives, and its answer comes back; each may get lost."""
        world = self.world
        world.step()
        if world.rng.random() < world.faults:
            raise StoreError("the request was lost")
        yield
        world.step()
        if world.rng.random() < world.faults:
            raise StoreError("the answer was lost")

    def _write(self, name: str, content: bytes) -> Version:
        world = self.world
        world.objects[name] = content
        world.now += 1e-6
        world.written[name] = world.now
        if name == CURRENT:
            world.changed()
        return {"e_tag": hashlib.md5(content).hexdigest()}

    def put(self, name: str, content: bytes | Path) -> str:
        assert isinstance(content, bytes)
        with self._request():
            assert name not in self.world.objects, "written once"
            version = self._write(name, content)
        return version["e_tag"]

    def put_if_absent(self, name: str, content: bytes) -> Version | None:
        with self._request():
            return None if name in self.world.objects else self._write(name, content)

    def compare_and_set(self, name: str, content: bytes, version: Version) -> Version | None:
        with self._request():
            there = self.world.objects.get(name)
            new = None
            if there is not None and {"e_tag": hashlib.md5(there).hexdigest()} == version:
                new = self._write(name, content)
        return new

    def read(self, name: str) -> tuple[bytes, Version]:
        with self._request():
            content = self.world.objects.get(name)
        if content is None:
            raise FileNotFoundError(name)
        return content, {"e_tag": hashlib.md5(content).hexdigest()}

    def download(self, name: str, path: Path) -> None:
        path.write_bytes(self.read(name)[0])

    def list(self, prefix: str) -> list[Entry]:
        world = self.world
        with self._request():
            found = [
                Entry(name, len(content), "", datetime.fromtimestamp(world.written[name], UTC))
                for name, content in world.objects.items()
                if name.startswith(prefix)
            ]
        return sorted(found, key=lambda entry: entry.name)

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            with self._request():
                assert name not in self.world.in_force, f"deleted while it is in force: {name}"
                self.world.objects.pop(name, None)

    def age(self, name: str) -> float:
        with self._request():
            if name not in self.world.objects:
                raise FileNotFoundError(name)
            return self.world.now - self.world.written[name]


class Lock:
    """A lock between the threads of one process, which the same thread may take again."""

    def __init__(self, world: World) -> None:
        self.world, self.owner, self.depth = world, None, 0

    def __enter__(self) -> None:
        current: Any = getcurrent()
        while self.owner not in (None, current):
            self.world.step()
        self.owner, self.depth = current, self.depth + 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
        if not self.depth:
            self.owner = None


def shard_of(file: str) -> str | None:
    """Return the shard of a file of the world's attributions."""
    name = file.rpartition("/")[2]
    return name.partition("-")[2] if file.startswith(UNIT) else None


class Writer:
    """A process that takes the lease again and again, and changes what is in force."""

    def __init__(self, world: Surroundings, process: Process, rounds: int) -> None:
        self.world, self.process, self.rounds = world, process, rounds
        self.store = world.store(process)
        self.rng = random.Random(world.rng.random())

    def __call__(self) -> None:
        for _ in range(self.rounds):
            lease = self.lease()
            try:
                mine = lease.take(wait=self.rng.choice((0.0, 4 * self.world.seconds)))
            except (LeaseBusyError, StoreError):
                self.world.sleep(self.world.seconds)
                continue
            self.world.start(self.process, partial(self._beat, lease, mine))
            catalog = Catalog(self.store, lambda file: file.startswith(UNIT))
            changes = [self._note, self._gather, self._merge, self._drop]
            try:
                for change in self.rng.choices(changes, weights=[4, 4, 1, 1], k=self.rng.randint(1, 3)):
                    self.world.sleep(self.rng.random() * self.world.seconds / 2)
                    with lease.explaining():
                        change(lease, catalog)
                self._release(lease)
            except LeaseLostError:
                self.world.check_lost(mine)
            except StoreError:
                self._release(lease)

    def lease(self) -> Lease:
        """A lease that is not taken yet."""
        return Lease(
            self.store,
            holder=self.process.name,
            seconds=self.world.seconds,
            clock=partial(self.world.clock, self.process),
            sleep=self.world.sleep,
            lock=self.world.lock(),
        )

    def _release(self, lease: Lease) -> None:
        with suppress(StoreError, LeaseLostError):
            lease.release()

    def _beat(self, lease: Lease, mine: Current) -> None:
        while lease._held is not None:
            self.world.sleep(self.world.seconds / 8)
            try:
                if lease._held is not None:
                    lease.renew()
            except LeaseLostError:
                self.world.check_lost(mine)
            except StoreError:
                return

    def _note(self, lease: Lease, catalog: Catalog) -> None:
        """Add a line to the notes: read what is in force, and write it anew."""
        note = f"{self.process.name}-{self.rng.random()}"
        files = catalog.files(lease.current, NOTES)
        notes = json.loads(self.store.read(files[NOTES].object)[0]) if files else []
        name = object_name(lease, NOTES)
        ref = Ref(name, self.store.put(name, json.dumps([*notes, note]).encode()))
        catalog.publish(lease, {NOTES: {NOTES: ref}})
        self.world.acknowledge(note)

    def _gather(self, lease: Lease, catalog: Catalog) -> None:
        """Name the shards that workers have finished."""
        entries = self.store.list(f"{OBJECTS}/{UNIT}/")
        named = {ref.object for ref in catalog.files(lease.current, UNIT).values()}
        by_nonce: dict[str, dict[str, Ref]] = {}
        for entry in sorted(entries, key=lambda entry: entry.written):
            file, _, nonce = entry.name.removeprefix(f"{OBJECTS}/").rpartition("/")
            if entry.name not in named:
                by_nonce.setdefault(nonce, {})[file] = Ref(entry.name, entry.tag)
        shards = []
        for files in by_nonce.values():
            for file in files:
                if "manifest-" in file and len(files) == 2:
                    with suppress(FileNotFoundError):  # it was among the tombstones
                        replaces = json.loads(self.store.read(files[file].object)[0])
                        shards.append(Shard(str(shard_of(file)), files, tuple(replaces)))
        self._name(lease, catalog, shards)

    def _name(self, lease: Lease, catalog: Catalog, shards: Sequence[Shard]) -> None:
        catalog.name_shards(lease, UNIT, shards, shard_of, _overlapping)

    def _merge(self, lease: Lease, catalog: Catalog) -> None:
        """Merge two shards into one."""
        files = catalog.files(lease.current, UNIT)
        names = sorted({str(shard_of(file)) for file in files})[:2]
        if len(names) == 2:
            self._name(lease, catalog, [upload(self.store, _rows_of(names), self.rng, names)])

    def _drop(self, lease: Lease, catalog: Catalog) -> None:
        """Delete a shard."""
        files = catalog.files(lease.current, UNIT)
        names = sorted({str(shard_of(file)) for file in files})
        if names:
            gone = self.rng.choice(names)
            catalog.publish(
                lease, {UNIT: {file: ref for file, ref in files.items() if shard_of(file) != gone}}
            )


def _rows_of(shards: Sequence[str]) -> list[int]:
    return sorted(row for shard in shards for row in _named_rows(shard))


def _named_rows(shard: str) -> set[int]:
    return {int(row) for row in shard.split("_")}


def _overlapping(shard: Shard, others: Sequence[Shard]) -> bool:
    return any(_named_rows(shard.name) & _named_rows(other.name) for other in others)


def upload(store: Store, rows: Sequence[int], rng: random.Random, replaces: Sequence[str] = ()) -> Shard:
    """Write a shard of these documents as a worker does, without the lease: the documents, then the manifest."""
    name, nonce = "_".join(map(str, rows)), f"{rng.getrandbits(64):016x}"
    files = {}
    for kind, value in (("documents", rows), ("manifest", replaces)):
        file = f"{UNIT}/{kind}-{name}"
        place = f"{OBJECTS}/{file}/{nonce}"
        files[file] = Ref(place, store.put(place, json.dumps(list(value)).encode()))
    return Shard(name, files, tuple(replaces))


class Worker:
    """A process that finishes shards, divided as it was told; another may have been told otherwise."""

    def __init__(self, world: Surroundings, process: Process) -> None:
        self.world, self.process = world, process
        self.store = world.store(process)
        self.rng = random.Random(world.rng.random())

    def __call__(self) -> None:
        size = self.rng.choice((2, 3, 4))
        for first in range(0, DOCUMENTS, size):
            try:
                upload(self.store, range(first, first + size), self.rng)
            except StoreError:
                continue
            self.world.sleep(self.rng.random() * self.world.seconds)
            with suppress(StoreError):
                self._merge()

    def _merge(self) -> None:
        """Merge two shards that are in force now, and leave it to others to have the result count."""
        found = Catalog(self.store, lambda file: file.startswith(UNIT)).read(lambda unit: unit == UNIT)
        files = found[1].get(UNIT, {}) if found else {}
        names = sorted({str(shard_of(file)) for file in files})[:2]
        if len(names) == 2 and self.rng.random() < 0.3:
            upload(self.store, _rows_of(names), self.rng, names)


def play(seed: int, writers: int = 3, workers: int = 2) -> World:
    """Play one schedule, check at each write what must hold, and at the end that nobody is stuck."""
    world = World(seed)
    for number in range(writers):
        process = Process(f"writer-{number}", world.rng.uniform(-3600, 3600))
        world.start(process, Writer(world, process, rounds=3))
    for number in range(workers):
        process = Process(f"worker-{number}", world.rng.uniform(-3600, 3600))
        world.start(process, Worker(world, process))
    try:
        world.run()
        world.faults = world.freezes = world.kills = 0.0
        process = Process("last", 0.0)
        last = Writer(world, process, rounds=1)

        def finish() -> None:
            lease, catalog = last.lease(), Catalog(last.store, lambda file: file.startswith(UNIT))
            lease.take(wait=20 * SECONDS)
            last._gather(lease, catalog)
            last._note(lease, catalog)
            lease.release()

        world.start(process, finish)
        world.run()
        assert world.history[-1].writer is None, "the last writer is stuck"
        assert set(world.acknowledged) <= set(world.noted), "an update that was acknowledged is lost"
    finally:
        world.end()
    return world


def main() -> None:
    """Play schedules, the first seeds, and say what happened in them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000)
    count = parser.parse_args().schedules
    takeovers = notes = 0
    for seed in range(count):
        world = play(seed)
        takeovers += world.takeovers
        notes += len(world.noted)
    print(f"{count} schedules held: {takeovers} leases taken from a frozen or dead holder, {notes} updates")


if __name__ == "__main__":
    main()
