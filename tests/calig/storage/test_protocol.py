"""The one-writer protocol in schedules drawn at random: see `tests.material.protocol`."""

from __future__ import annotations

import pytest

from tests.material.object_store import Store
from tests.material.protocol import play
from tests.material.tiers import extended, few


@pytest.mark.parametrize(
    ("first", "count"), few([(0, 200), (200, 800)], [(0, 200)], "more schedules; tests.long has 10,000")
)
def test_no_schedule_brings_what_is_stale_into_force(first: int, count: int) -> None:
    takeovers = notes = 0
    for seed in range(first, first + count):
        try:
            world = play(seed)
        except AssertionError as error:
            raise AssertionError(f"schedule {seed}: {error}") from error
        takeovers += world.takeovers
        notes += len(world.noted)
    assert takeovers > count, "too few leases are taken from a holder that is frozen or dead to show anything"
    assert notes > 2 * count


@extended("real processes on an S3 server; tests.long has 200 schedules")
def test_no_stopped_or_killed_process_brings_what_is_stale_into_force(store: Store) -> None:
    from tests.material.protocol_processes import play_all

    _, notes, writes = play_all(range(6), store, at_once=2)
    assert notes >= 6
    assert writes > 6 * 10
