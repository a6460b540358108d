"""The worker's side of an engine: a warehouse comes as its place, and is opened once."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from calig.engines.work import Message, Outcome, Worker
from calig.errors import InputError
from calig.warehouse.layout import Sent, Warehouse


@dataclass(frozen=True, slots=True)
class Asked:
    """An argument with a warehouse, as a run is."""

    warehouse: Warehouse
    number: int


def found(asked: Asked, progress: Callable[[int], None]) -> tuple[Warehouse, int]:
    """The warehouse as the work sees it."""
    return asked.warehouse, asked.number


def sent(asked: Asked) -> tuple[Any, ...]:
    """The arguments as they come out of a socket."""
    return (pickle.loads(pickle.dumps(asked)),)


def outcome(told: list[Message]) -> Outcome:
    last = told[-1]
    assert isinstance(last, Outcome)
    return last


def test_a_worker_opens_each_warehouse_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = [Warehouse.open(tmp_path / name) for name in "ab"]
    assert pickle.loads(pickle.dumps(here[0])) == Sent(str(here[0].root))
    opened: list[str] = []
    real = Warehouse.open
    monkeypatch.setattr(Warehouse, "open", lambda place: opened.append(place) or real(place))
    told: list[Message] = []
    worker = Worker(told.append)
    seen = []
    for number, warehouse in enumerate((*here, *here)):
        worker.perform(found, sent(Asked(warehouse, number)))
        seen.append(outcome(told).get())
    assert [number for _, number in seen] == [0, 1, 2, 3]
    assert [warehouse.root for warehouse, _ in seen] == [one.root for one in (*here, *here)]
    assert opened == [str(one.root) for one in here]
    assert seen[0][0] is seen[2][0]


def test_a_warehouse_that_a_worker_cannot_open_is_an_outcome(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w")
    warehouse.root.rmdir()
    warehouse.root.write_text("a file")
    told: list[Message] = []
    Worker(told.append).perform(found, sent(Asked(warehouse, 0)))
    assert isinstance(outcome(told).error, InputError)
    assert "this is a file" in str(outcome(told).error)
