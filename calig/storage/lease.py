"""One writer at a time: the one object of a warehouse that changes, `CURRENT`, and who may change it.

`CURRENT` says who holds the lease (epoch, writer), that the holder lives (a counter and a nonce), and what is in force
(the database, the index, the tombstones). It changes by compare-and-set only:

- take: if nobody holds it, or if it has not changed for the whole time to live on this observer's monotonic clock;
  clocks of two machines are never compared. The taker sets epoch + 1 and itself.
- renew, publish, release: from the version that the holder itself wrote last. After every refusal the object is read:
  the lease is lost only if epoch or writer differ, since a write whose reply was lost is refused when it is tried
  again.

So after a take of epoch e + 1, nothing of an epoch ≤ e comes into force, whatever its holder believes: whoever was
frozen finds out at its next write. That is all that safety rests on; times to live and locks only decide who waits for
whom.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from calig.errors import BusyError, InputError
from calig.storage.store import Store, StoreError, Version

CURRENT = "CURRENT"
FORMAT = 1
LEASE_SECONDS = 120.0
"""How long a lease may stay unchanged before others take it."""


class LeaseLostError(InputError):
    """Another writer has taken the lease: nothing more is written."""


class LeaseBusyError(BusyError):
    """Another writer holds the lease, and lives."""


@dataclass(frozen=True, slots=True)
class Current:
    """What `CURRENT` says.

    Attributes
    ----------
    epoch
        How many times the lease has been taken.
    writer
        A random name of the one who holds it; None: nobody does.
    holder, machine
        Who that is, for messages; and on which machine.
    beat, nonce
        A counter and random digits, new at each write: equal contents would have equal ETags.
    database, index, tombstones
        Names of the objects in force.
    format
        Of this object and of those that it names.
    """

    epoch: int = 0
    writer: str | None = None
    holder: str = ""
    machine: str = ""
    beat: int = 0
    nonce: str = ""
    database: str | None = None
    index: str | None = None
    tombstones: str | None = None
    format: int = FORMAT

    @property
    def in_force(self) -> tuple[str | None, str | None, str | None]:
        """Names of the objects in force."""
        return self.database, self.index, self.tombstones

    def to_bytes(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Current:
        """Read what `to_bytes` wrote.

        Raises
        ------
        InputError
            If it is of a newer format, or no such thing.
        """
        try:
            value = json.loads(content)
            version = int(value["format"])
            if version <= FORMAT:
                return cls(**value)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{CURRENT} of the warehouse is damaged ({error}): restore it from a backup"
            ) from error
        raise InputError(
            f"the warehouse's format is {version}, and this calig reads up to {FORMAT}: install a newer calig"
        )


def read_current(store: Store, name: str = CURRENT) -> tuple[Current | None, Version | None]:
    """Return what the object says, and its version; None, None if there is none."""
    try:
        content, version = store.read(name)
    except FileNotFoundError:
        return None, None
    return Current.from_bytes(content), version


class Lease:
    """The lease on one object, and, while it is held, what that object says.

    Parameters
    ----------
    store, name
        Where the object is.
    holder, machine
        Who this is, for messages; and on which machine.
    seconds
        The time to live.
    clock, sleep, lock
        A monotonic clock in seconds, how to wait, and the lock around renewing and publishing; tests have their own.
    dead
        Whether the holder that the object names is known to have died; it is then not waited for.
    first
        What the object is to say when there is none yet.
    """

    def __init__(
        self,
        store: Store,
        name: str = CURRENT,
        *,
        holder: str,
        machine: str = "",
        seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        lock: AbstractContextManager[Any] | None = None,
        dead: Callable[[Current], bool] = lambda current: False,
        first: Callable[[], Current] = Current,
    ) -> None:
        self.store, self.name = store, name
        self.holder, self.machine = holder, machine
        self.seconds = seconds
        self._clock, self._sleep = clock, sleep
        self._lock = lock or threading.RLock()
        self._dead, self._first = dead, first
        self._held: tuple[Current, Version] | None = None

    @property
    def current(self) -> Current:
        """What the object says, as this holder wrote it last.

        Raises
        ------
        LeaseLostError
            If the lease is not held, or was lost.
        """
        if self._held is None:
            raise LeaseLostError("the right to write was lost to another writer; run the same command again")
        return self._held[0]

    def take(self, wait: float = 0.0) -> Current:
        """Become the one writer.

        A holder that does not renew is watched for the whole time to live, even with `wait` 0, and then replaced.

        Raises
        ------
        LeaseBusyError
            If a holder that lives has it for longer than `wait` seconds; names it.
        """
        deadline = self._clock() + wait
        seen: Version | None = None
        since, lives, asked = 0.0, False, False
        while True:
            before = self._clock()
            current, version = read_current(self.store, self.name)
            unchanged = version is not None and version == seen
            expired = unchanged and before - since >= self.seconds
            if current is None or current.writer is None or expired or self._dead(current):
                if self._try(current or self._first(), version):
                    return self.current
                seen, lives = None, True  # somebody was faster
            elif not unchanged:
                lives = lives or seen is not None
                seen, since = version, self._clock()
            if self._clock() >= deadline:
                if not lives and not asked:
                    asked, lives = True, self._is_young()
                if lives:
                    holder = current.holder if current else "it has just started"
                    raise LeaseBusyError(f"another writer is at work ({holder}); try again later")
            self._sleep(min(1.0, self.seconds / 10))

    def renew(self) -> None:
        """Show that the holder lives."""
        self._set({})

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Say that the lease was lost where an object of what was in force when it was had is not there any more."""
        try:
            yield
        except FileNotFoundError:
            self.renew()
            raise

    def publish(self, **names: str | None) -> None:
        """Put objects in force: any of `database`, `index`, `tombstones`."""
        self._set(names)

    def release(self) -> None:
        """Let go of the lease, if it is held."""
        with self._lock:
            if self._held is not None:
                self._set({"writer": None, "holder": "", "machine": ""}, anyway=True)
                self._held = None

    def _is_young(self) -> bool:
        """Whether the object was written so lately that its holder lives; spares those who do not wait the watching."""
        try:
            return self.store.age(self.name) < self.seconds / 2
        except FileNotFoundError:
            return False

    def _try(self, current: Current, version: Version | None) -> bool:
        """Take the lease from what the object says now; whether it was had."""
        own = replace(
            current,
            epoch=current.epoch + 1,
            writer=secrets.token_hex(8),
            holder=self.holder,
            machine=self.machine,
            beat=0,
            nonce=secrets.token_hex(8),
        )
        content = own.to_bytes()
        with self._lock:
            try:
                written = (
                    self.store.put_if_absent(self.name, content)
                    if version is None
                    else self.store.compare_and_set(self.name, content, version)
                )
            except StoreError:
                written = None
            if written is None:  # refused; or it is done, and the reply got lost
                try:
                    found, there = self.store.read(self.name)
                except FileNotFoundError:
                    return False
                if found != content:
                    return False
                written = there
            self._held = own, written
            return True

    def _set(self, change: dict[str, str | None], anyway: bool = False) -> None:
        """Change the object from the version that was written last.

        An interrupted call of this holder may have changed it after that: then what was to come into force was made
        without knowledge of what is in force, and is given up, unless it is to be done `anyway`.
        """
        with self._lock:
            base = self.current
            version = self._held[1] if self._held else {}
            new = _changed(base, change)
            until, attempts = self._clock() + self.seconds, 0
            while True:
                attempts += 1  # time alone may have passed in one attempt of a process that was frozen
                failure: StoreError | None = None
                try:
                    written = self.store.compare_and_set(self.name, new.to_bytes(), version)
                    if written is not None:
                        self._held = new, written
                        return
                except StoreError as error:
                    failure = error
                try:
                    there, version = self._reread()
                except StoreError as error:
                    failure = error
                else:
                    if there == new:
                        self._held = new, version
                        return
                    if there is None or (there.epoch, there.writer) != (base.epoch, base.writer):
                        self._held = None
                        raise self._lost(there)
                    if there.in_force != base.in_force and not anyway:
                        self._held = None
                        raise LeaseLostError("the last write was interrupted; run the same command again")
                    if there != base:
                        base, new = there, _changed(there, change)
                if failure is not None and attempts > 3 and self._clock() >= until:
                    self._held = (
                        None  # by now others may have it, and a request that is still under way may arrive
                    )
                    raise failure
                self._sleep(min(1.0, self.seconds / 100))

    def _reread(self) -> tuple[Current | None, Version]:
        current, version = read_current(self.store, self.name)
        return current, version or {}

    def _lost(self, there: Current | None) -> LeaseLostError:
        by = f" to {there.holder}" if there and there.holder else ""
        return LeaseLostError(
            f"the right to write was lost{by}, since it was not renewed for {self.seconds:.0f} s; "
            "nothing more is written: run the same command again"
        )


def _changed(base: Current, change: dict[str, Any]) -> Current:
    return replace(base, beat=base.beat + 1, nonce=secrets.token_hex(8), **change)
