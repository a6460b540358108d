"""The data of a warehouse that is not needed once some runs are gone: corpora, attributions, or shards of them.

A corpus is needed by the runs and evaluations on it, a folder of attributions by the runs that read it and by the
comparisons that explained documents again, a row in it by the runs that show it: all rows of its documents by a run
that has not settled which.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from calig.errors import InputError, NewerError
from calig.files import Files
from calig.formats import readable
from calig.listing import children, exists, files_below, is_file, is_folder, matching
from calig.warehouse.compact import delete_shard, rewrite
from calig.warehouse.evaluations import list_all_evaluations
from calig.warehouse.explained import FILE
from calig.warehouse.layout import Warehouse
from calig.warehouse.pins import unpinned
from calig.warehouse.runs import RunManifest, list_all_runs
from calig.warehouse.shards import NO_CLASS, ShardManifest, by_class, completed
from calig.warehouse.views import scan

IDLE_SECONDS = 24 * 3600.0
"""Age from which data that no run and no evaluation speaks of is nobody's."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A shard of whose rows too few are needed: those with these keys (`row_keys`)."""

    shard: ShardManifest
    keys: pa.Array

    @property
    def bytes(self) -> int:
        """Size of what goes, by its share of the documents."""
        return round(self.shard.bytes * (1 - len(self.keys) / self.shard.documents))

    def make(self, files: Files, folder: Path) -> None:
        """Write the shard, which lies in `folder`, anew without what goes; drop it where nothing stays.

        A shard that is being read is not dropped: the next prune does it.
        """
        if len(self.keys):
            rewrite(files, folder, self.shard, self.keys)
            return
        with unpinned(folder) as free:
            if free:
                delete_shard(files, folder, self.shard.shard)


@dataclass(frozen=True, slots=True)
class Data:
    """What is not needed: whole folders, of corpora and of attributions, and shards of the folders that stay."""

    corpora: list[Path]
    attributions: list[Path]
    cuts: dict[Path, list[Cut]]

    @property
    def bytes(self) -> int:
        """Size of it all; of shards to be written anew the share of the documents that go."""
        whole = sum(map(size_of, (*self.corpora, *self.attributions)))
        return whole + sum(cut.bytes for cuts in self.cuts.values() for cut in cuts)


@dataclass(slots=True)
class _Needs:
    """Keys of corpora and of attributions that runs speak of."""

    corpora: dict[str, float] = field(default_factory=dict)
    attributions: set[str] = field(default_factory=set)

    def add(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Take in a run; of its corpus also the time (Unix) at which the run's documents were taken from it."""
        documents = folder / "documents.parquet"
        taken = documents.stat().st_mtime if is_file(documents) else 0.0
        key = manifest["corpus"]["key"]
        self.corpora[key] = max(taken, self.corpora.get(key, 0.0))
        self.attributions.add(manifest["attribution_key"])
        manifests = [comparison / "manifest.json" for comparison in children(folder / "comparisons")]
        for path in filter(exists, manifests):
            self.attributions.update(_read(path).get("attribution_keys", ()))


def unneeded(warehouse: Warehouse, going: Sequence[Path]) -> Data:
    """Find the data that is not needed once some runs are gone.

    Parameters
    ----------
    warehouse
        The warehouse.
    going
        The folders of these runs, be they set aside already or not. What they needed goes at once; what no run speaks
        of may be waiting for one that is about to start, and goes when nobody has touched it for `IDLE_SECONDS`.

    Raises
    ------
    InputError
        If a manifest of a run, comparison or evaluation that stays is damaged or of a newer format: what it needs is
        not known.
    """
    gone, needed = _Needs(), _Needs()
    for folder in going:
        try:
            gone.add(folder, _read(folder / "manifest.json"))
        except NewerError:
            raise
        except (InputError, KeyError):  # half deleted: the data that only it needed is gone
            continue
    names = {folder.name for folder in going}
    runs = [run for run in list_all_runs(warehouse) if run.run_id not in names]
    for run in runs:
        needed.add(warehouse.run(run.run_id), run.to_json())
    corpora = {*needed.corpora, *(one.corpus["key"] for one in list_all_evaluations(warehouse))}
    attributions = _folders(warehouse.attributions(""))
    return Data(
        [
            folder
            for folder in _folders(warehouse.corpora)
            if folder.name not in corpora
            and (folder.stat().st_mtime <= gone.corpora.get(folder.name, 0.0) or _idle(folder))
        ],
        [
            folder
            for folder in attributions
            if folder.name not in needed.attributions and (folder.name in gone.attributions or _idle(folder))
        ],
        _cuts(warehouse, runs, [folder for folder in attributions if folder.name in needed.attributions]),
    )


def _cuts(
    warehouse: Warehouse, runs: Sequence[RunManifest], folders: Sequence[Path]
) -> dict[Path, list[Cut]]:
    """Find the shards of which no run needs a row, or fewer than half are needed by one."""
    documents = [warehouse.run(run.run_id) / "documents.parquet" for run in runs]
    if not all(map(is_file, documents)):  # one is damaged: who knows what it held
        return {folder: [] for folder in folders}
    cuts: dict[Path, list[Cut]] = {folder: [] for folder in folders}
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE shown (doc_key VARCHAR, target INTEGER)")
        connection.execute("CREATE TABLE whole (doc_key VARCHAR)")
        for run, path in zip(runs, documents, strict=True):
            if is_file(explained := warehouse.run(run.run_id) / FILE):
                connection.execute(
                    f"INSERT INTO shown SELECT doc_key, coalesce(target, {NO_CLASS}) FROM {scan([path])} AS d "
                    f"JOIN {scan([explained])} AS e ON e.doc_id = d.doc_id"
                )
            else:
                connection.execute(f"INSERT INTO whole SELECT doc_key FROM {scan([path])}")
        for folder in folders:
            for shard in completed(warehouse.files, folder, check=False):
                [path] = shard.paths(folder, "documents")
                keys = _needed(connection, path)
                if len(keys) < shard.documents / 2:
                    cuts[folder].append(Cut(shard, keys))
    return cuts


def _needed(connection: duckdb.DuckDBPyConnection, path: Path) -> pa.Array:
    """Return the keys of the rows of a documents file that runs show, or may come to show."""
    row = f"coalesce(target, {NO_CLASS})"
    key, is_shown = f"doc_key || ' ' || {row}", f"(doc_key, {row}) IN (FROM shown)"
    if not by_class(path):
        key, is_shown = "doc_key", "doc_key IN (SELECT doc_key FROM shown)"
    rows = connection.execute(
        f"SELECT {key} FROM {scan([path])} WHERE doc_key IN (FROM whole) OR {is_shown}"
    ).fetchall()
    return pa.array([row[0] for row in rows], pa.string())


def _read(path: Path) -> dict[str, Any]:
    """Read a manifest's JSON object."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): delete its folder") from error
    try:
        return readable(str(path), content)
    except TypeError as error:
        raise InputError(f"{path} is damaged ({error}): delete its folder") from error


def _folders(place: Path) -> list[Path]:
    return [path for path in matching(place, "[!.]*") if is_folder(path)]


def _idle(folder: Path) -> bool:
    """Whether nothing in a folder was written lately."""
    times = [folder.stat().st_mtime, *(path.stat().st_mtime for path in children(folder))]
    return max(times) < time.time() - IDLE_SECONDS


def size_of(folder: Path) -> int:
    """Return the size of all files in a folder, in bytes."""
    return sum(path.stat().st_size for path in files_below(folder))
