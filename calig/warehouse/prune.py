"""Removing old runs, and the data that none of those left, nor any evaluation, needs.

Kill-safe by order. The runs' folders are set aside, each by one renaming into `.pruned/runs/`, whose presence says that
there is more to do. Then their rows leave calig.duckdb, in one swap. Then the data: corpora and attribution folders are
renamed into `.pruned/` as well, shards go manifest first, and those of which more than half is needed no more are
written anew. Last, `.pruned` is deleted. The next prune, or `calig doctor --fix`, finishes one that was killed.

What is needed is asked when the data's turn has come, while no run can start: both hold the lock of the folder of
runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from calig.errors import InputError
from calig.files import sync
from calig.listing import children, exists, is_file
from calig.warehouse.catalog import TABLES
from calig.warehouse.compact import tidy
from calig.warehouse.database import attach, new_database
from calig.warehouse.layout import Warehouse
from calig.warehouse.needs import Data, size_of, unneeded
from calig.warehouse.pins import unpinned
from calig.warehouse.runs import UNDER_WAY, RunManifest, list_all_runs
from calig.warehouse.shards import completed, sweep
from calig.warehouse.tags import read_tag, tag_files

START_SECONDS = 60.0
"""How long to wait for a run that is just starting."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was, or would be, removed.

    Attributes
    ----------
    runs
        Ids of runs, also those that a killed prune left.
    corpora, attributions
        Folders of corpora, and of attributions.
    shards
        Shards dropped or written anew in folders that stay.
    bytes
        Size of it all; of shards written anew the share of their documents.
    busy
        Folders of attributions in which an audit is writing, and which stay as they are.
    pinned
        Folders of runs, corpora and attributions that are being read, and stay as they are; such as runs/<run id>.
    """

    runs: tuple[str, ...]
    corpora: int
    attributions: int
    shards: int
    bytes: int
    busy: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()


def plan(warehouse: Warehouse, keep: int, name: str | None = None) -> Pruned:
    """Say what `prune` would remove, and touch nothing; parameters and errors as there."""
    going = [*_expired(warehouse, keep, name), *_set_aside(warehouse)]
    return _summary(going, unneeded(warehouse, going))


def prune(warehouse: Warehouse, keep: int, name: str | None = None, wait: float = 0.0) -> Pruned:
    """Keep, of each audit, the newest complete runs, and remove what is older and what then nobody needs.

    Tagged runs and runs under way stay, and so do unfinished runs newer than the oldest complete one that is kept. An
    audit with fewer complete runs than `keep` loses none. Step schedules stay: they are small, and make keys stable.

    Parameters
    ----------
    warehouse
        The warehouse.
    keep
        Complete runs to keep of each audit, 1 or more.
    name
        The audit whose runs are pruned; None: all.
    wait
        Seconds to wait for another writer to finish.

    Raises
    ------
    InputError
        If there is no audit of this name, another writer is at work, or a manifest, a tag or calig.duckdb is damaged:
        then nothing is removed.
    """
    with warehouse.writer_lock(wait=wait):
        if is_file(warehouse.database):
            with duckdb.connect() as connection:
                attach(connection, warehouse.database)
        for data in (warehouse.corpora, warehouse.attributions("")):
            warehouse.files.fetch(data)
        with warehouse.writer_lock(warehouse.runs, wait=START_SECONDS):
            expired = _expired(warehouse, keep, name)
            unneeded(warehouse, expired)  # which raises, if it does, while all is there
            moved = [
                folder
                for folder in expired
                if _move(warehouse, folder, warehouse.pruned / "runs" / folder.name)
            ]
        done = _finish(warehouse)
        stayed = tuple(_place(folder) for folder in expired if folder not in moved)
        return replace(done, pinned=stayed + done.pinned)


def finish(warehouse: Warehouse, wait: float = 0.0) -> Pruned:
    """Finish a prune that was killed; parameter and errors as for `prune`."""
    with warehouse.writer_lock(wait=wait):
        return _finish(warehouse)


def _finish(warehouse: Warehouse) -> Pruned:
    going = _set_aside(warehouse)
    _drop_rows(warehouse, [folder.name for folder in going])
    with warehouse.writer_lock(warehouse.runs, wait=START_SECONDS), ExitStack() as locks:
        data = unneeded(warehouse, going)
        busy = []
        for folder in (*data.attributions, *data.cuts):
            try:
                locks.enter_context(warehouse.writer_lock(folder))
            except InputError:
                busy.append(folder)
        everything = (*data.corpora, *data.attributions, *data.cuts)
        read = [folder for folder in everything if folder not in busy and _read_by_others(folder)]
        stay = {*busy, *read}
        free = Data(
            [folder for folder in data.corpora if folder not in stay],
            [folder for folder in data.attributions if folder not in stay],
            {folder: cuts for folder, cuts in data.cuts.items() if folder not in stay},
        )
        left, pinned = ([own for own in found if data.cuts.get(own, True)] for found in (busy, read))
        done = replace(
            _summary(going, free),
            busy=tuple(folder.name for folder in left),
            pinned=tuple(map(_place, pinned)),
        )
        for folder, cuts in free.cuts.items():
            for cut in cuts:
                cut.make(warehouse.files, folder)
            tidy(warehouse.files, folder, completed(warehouse.files, folder, check=False))
            sweep(folder)
        for folder in (*free.corpora, *free.attributions):
            _move(warehouse, folder, warehouse.pruned / f"{folder.parent.name}-{folder.name}")
    for folder in children(warehouse.attributions("")):
        for path in children(folder / "words"):
            if folder not in busy and not exists(warehouse.corpus(path.name.partition(".")[0])):
                with unpinned(folder) as unread:
                    if unread:
                        warehouse.files.discard(path)
    if exists(warehouse.pruned):
        shutil.rmtree(warehouse.pruned)
    return done


def _expired(warehouse: Warehouse, keep: int, name: str | None) -> list[Path]:
    """Return the folders of the runs to remove."""
    if keep < 1:
        raise InputError(f"--keep {keep}: at least the newest run stays; give 1 or more")
    runs = list_all_runs(warehouse)
    names = sorted({run.name for run in runs})
    if name is not None and name not in names:
        raise InputError(f"no audit is named {name}; there are: {', '.join(names) or 'none'}")
    tagged = {read_tag(path) for path in tag_files(warehouse.tags)}  # all of them: a tagged run stays
    expired: list[RunManifest] = []
    for audit in names if name is None else [name]:
        own = [run for run in runs if run.name == audit]
        complete = [number for number, run in enumerate(own) if run.is_finished]
        if len(complete) >= keep:
            older = own[: complete[-keep]]
            expired += [run for run in older if run.status not in UNDER_WAY and run.run_id not in tagged]
    return [warehouse.run(run.run_id) for run in expired]


def _summary(runs: Sequence[Path], data: Data) -> Pruned:
    return Pruned(
        tuple(folder.name for folder in runs),
        len(data.corpora),
        len(data.attributions),
        sum(map(len, data.cuts.values())),
        sum(map(size_of, runs)) + data.bytes,
    )


def _set_aside(warehouse: Warehouse) -> list[Path]:
    """Return the folders of runs that a prune has set aside and not finished with."""
    return children(warehouse.pruned / "runs")


def _move(warehouse: Warehouse, folder: Path, place: Path) -> bool:
    """Rename a folder, durably, unless it is being read; whether it was. What a killed prune left in the place goes."""
    with unpinned(folder) as free:
        if not free:
            return False
        if exists(place):
            shutil.rmtree(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(place)
        sync(place.parent)
        sync(folder.parent)
        warehouse.files.withdraw(folder)
    return True


def _place(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def _read_by_others(folder: Path) -> bool:
    with unpinned(folder) as free:
        return not free


def _drop_rows(warehouse: Warehouse, runs: Sequence[str]) -> None:
    """Delete the rows of runs from the aggregates, in one swap."""
    if not runs or not is_file(warehouse.database):
        return
    with new_database(warehouse, memory="4GB", keep=True) as connection:
        for table in TABLES:
            connection.execute(f"DELETE FROM {table} WHERE run_id IN (SELECT unnest(?))", [list(runs)])
