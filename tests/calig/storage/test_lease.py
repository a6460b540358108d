"""The lease: who has it, what it says, and what happens to who has lost it. The rest is in `test_protocol`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calig.errors import InputError
from calig.storage.lease import CURRENT, Current, Lease, LeaseBusyError, LeaseLostError
from calig.storage.local import LocalStore
from calig.storage.store import StoreError


class Clock:
    """A clock that stands still but for who sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def _lease(folder: Path, holder: str, clock: Clock, **options: Any) -> Lease:
    return Lease(
        LocalStore(folder), holder=holder, seconds=10.0, clock=lambda: clock.now, sleep=clock.sleep, **options
    )


def test_it_is_had_by_one_and_passed_on_with_what_is_in_force(tmp_path: Path) -> None:
    clock = Clock()
    one, other = _lease(tmp_path, "one", clock), _lease(tmp_path, "other", clock)
    assert one.take().epoch == 1
    one.publish(index="i", database="d", tombstones=None)
    with pytest.raises(LeaseBusyError, match=r"another writer is at work \(one\)"):
        other.take()
    one.release()
    one.release()
    taken = other.take()
    assert (taken.epoch, taken.holder, taken.in_force) == (2, "other", ("d", "i", None))
    with pytest.raises(LeaseLostError):
        one.publish(index="j")


def test_it_is_taken_from_a_holder_that_does_not_renew_and_who_then_writes_nothing(tmp_path: Path) -> None:
    clock = Clock()
    one, other = _lease(tmp_path, "one", clock), _lease(tmp_path, "other", clock)
    one.take()
    clock.now = 1000.0
    began = clock.now
    other._is_young = lambda: False  # type: ignore[method-assign]
    other.take()
    assert clock.now - began >= 10.0, "it was watched for the whole time to live"
    with pytest.raises(
        LeaseLostError, match="the right to write was lost to other, since it was not renewed for 10 s"
    ):
        one.renew()
    with pytest.raises(LeaseLostError):
        one.publish(index="stale")
    one.release()
    assert Current.from_bytes((tmp_path / CURRENT).read_bytes()).holder == "other"


def test_a_holder_that_is_known_to_have_died_is_not_waited_for(tmp_path: Path) -> None:
    clock = Clock()
    _lease(tmp_path, "one", clock, machine="m").take()
    other = _lease(tmp_path, "other", clock, dead=lambda current: current.machine == "m")
    other.take()
    assert clock.now == 0.0


def test_an_interrupted_write_is_found_and_not_written_over(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a publish: it is done, and the lease does not know."""
    clock = Clock()
    one = _lease(tmp_path, "one", clock)
    one.take()
    before = one._held
    one.publish(index="interrupted")
    one._held = before
    with pytest.raises(LeaseLostError, match="the last write was interrupted"):
        one.publish(index="made without knowing of it")
    one._held = before
    one.release()
    current = Current.from_bytes((tmp_path / CURRENT).read_bytes())
    assert (current.index, current.writer) == ("interrupted", None)


def test_a_store_that_does_not_answer_is_tried_for_as_long_as_the_lease_lives(tmp_path: Path) -> None:
    clock = Clock()
    one = _lease(tmp_path, "one", clock)
    one.take()

    def fail(*_: object) -> Any:
        raise StoreError("no network")

    one.store.compare_and_set = one.store.read = fail  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="no network"):
        one.renew()
    assert clock.now >= 10.0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"format": 2}', "the warehouse's format is 2, and this calig reads up to 1"),
        (b"{", "CURRENT of the warehouse is damaged"),
        (b'{"format": 1, "epoc": 3}', "CURRENT of the warehouse is damaged"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Current.from_bytes(content)
