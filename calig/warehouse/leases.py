"""The leases of a warehouse on a store, as a process of this machine holds them.

All writing rests on one (`calig.storage.lease`). Advisory ones only spare two who would do the same work, or show that
a run is under way: no write depends on them, and their age is by the store's clock.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from calig.errors import BusyError
from calig.storage import lease as lease_module
from calig.storage.lease import CURRENT, Current, Lease, LeaseBusyError, LeaseLostError, read_current
from calig.storage.store import Store, StoreError, check_conditional_writes
from calig.stores import reachable

log = logging.getLogger(__name__)

BRIEF_SECONDS = 5.0
"""How long whoever does not wait for another writer waits all the same: most only publish a file."""


class Leases:
    """The leases of the warehouse at `url`, whose mirror is the folder `root`.

    Parameters
    ----------
    url, root, store
        The warehouse.
    machine
        A name of this mirror on this machine.
    first
        What `CURRENT` is to say when there is none.
    """

    def __init__(
        self, url: str, root: Path, store: Store, machine: str, first: Callable[[], Current]
    ) -> None:
        self.url, self.root, self.store, self.machine = url, root, store, machine
        self._first = first
        self._checked = False
        self._lock = threading.RLock()
        self._lease: Lease | None = None

    def check_store(self) -> None:
        """Check, once, that the store has conditional writes."""
        if not self._checked:
            check_conditional_writes(self.store, self.url)
            self._checked = True

    @contextmanager
    def advisory(self, name: str, wait: float) -> Iterator[None]:
        """Hold an advisory lease; BusyError if another one holds it for longer than `wait` seconds."""
        lease = self._new_lease(advisory_name(name), dead=lambda current: self._is_dead(name, current))
        with self._named(), reachable(self.url):
            lease.take(wait)
        try:
            with _renewed(lease):
                yield
        finally:
            self._let_go(lease)

    def is_held(self, name: str) -> bool:
        """Whether somebody holds an advisory lease, and lives."""
        try:
            current, _ = read_current(self.store, advisory_name(name))
            if current is None or current.writer is None:
                return False
            return self.store.age(advisory_name(name)) <= lease_module.LEASE_SECONDS
        except FileNotFoundError:
            return False
        except StoreError:  # who may only read cannot ask for the store's time, which takes an object
            return True

    @contextmanager
    def writing(self, wait: float) -> Iterator[Lease]:
        """Hold the one lease; within a block that holds it already, go on with it."""
        with self._lock:
            if self._lease is not None:
                yield self._lease
                return
            self.check_store()
            until = time.monotonic() + max(wait, BRIEF_SECONDS)
            with self._only_here(until), self._named():
                lease = self._new_lease(CURRENT, dead=lambda one: one.machine == self.machine)
                with reachable(self.url):
                    lease.take(max(0.0, until - time.monotonic()))
                self._lease = lease
                try:
                    with _renewed(lease), lease.explaining():
                        yield lease
                finally:
                    self._lease = None
                    self._let_go(lease)

    @contextmanager
    def _only_here(self, until: float) -> Iterator[None]:
        """Be the only process of this machine: whoever else of it held the lease is dead then."""
        with (self.root / ".lease").open("a") as stream:
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise BusyError(
                            f"warehouse {self.url}: another writer is at work on this machine; try again later"
                        ) from None
                    time.sleep(0.05)
            yield

    def _new_lease(self, name: str, dead: Callable[[Current], bool]) -> Lease:
        return Lease(
            self.store,
            name,
            holder=f"pid {os.getpid()} on {socket.gethostname()}",
            machine=self.machine,
            seconds=lease_module.LEASE_SECONDS,
            dead=dead,
            first=self._first if name == CURRENT else Current,
        )

    def _is_dead(self, name: str, current: Current) -> bool:
        """Whether the holder of an advisory lease has died: by the store's clock, or by the lock that was here."""
        try:
            return (
                current.machine == self.machine
                or self.store.age(advisory_name(name)) > lease_module.LEASE_SECONDS
            )
        except FileNotFoundError:
            return True

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the warehouse in what is said of its lease."""
        try:
            yield
        except (LeaseBusyError, LeaseLostError) as error:
            raise type(error)(
                f"warehouse {self.url}: {str(error).removeprefix(f'warehouse {self.url}: ')}"
            ) from error

    def _let_go(self, lease: Lease) -> None:
        try:
            lease.release()
        except (StoreError, LeaseLostError) as error:
            log.warning("warehouse %s: the lease could not be released: %s", self.url, error)


@contextmanager
def _renewed(lease: Lease) -> Iterator[None]:
    """Renew a lease within the `with` block."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(lease.seconds / 8):
            try:
                lease.renew()
            except (StoreError, LeaseLostError) as error:
                log.warning("%s: it could not be renewed: %s", lease.name, error)
                return

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def advisory_name(name: str) -> str:
    """Return the object of an advisory lease."""
    return f"leases/{name}.json"
