"""Shards are pulled as workers come free, and few are held at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from flows.shards import pull


def test_a_slow_item_holds_up_no_other() -> None:
    release = threading.Event()
    last = 99

    def work(item: int) -> int:
        if item == 0:
            assert release.wait(60), "the others did not come to their end"
        if item == last:
            release.set()
        return item

    with ThreadPoolExecutor(2) as pool:
        results = list(pull(lambda item: pool.submit(work, item), range(last + 1), ahead=4))
    assert sorted(results) == list(range(last + 1))
    assert results[-1] == 0


def test_no_more_items_are_taken_than_may_be_under_way() -> None:
    taken: list[int] = []
    futures: list[Future[int]] = []

    def items() -> Iterator[int]:
        for item in range(10):
            taken.append(item)
            yield item

    def submit(item: int) -> Future[int]:
        futures.append(Future())
        if item < 2:
            futures[-1].set_result(item)
        return futures[-1]

    results = pull(submit, items(), ahead=3)
    assert next(results) == 0
    assert taken == [0, 1, 2]
    assert next(results) == 1
    assert taken == [0, 1, 2, 3]


def test_what_an_item_raises_is_raised() -> None:
    def submit(item: int) -> Future[int]:
        future: Future[int] = Future()
        future.set_exception(ValueError(item))
        return future

    with pytest.raises(ValueError, match="5"):
        list(pull(submit, [5], ahead=2))
