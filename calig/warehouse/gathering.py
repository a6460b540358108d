"""Shards that workers have finished, on a store: found, compared with those that count, and named.

Workers write shards without the lease (`calig.warehouse.shared`). Whoever is to count on shards has those named that
are whole, in the order in which they were finished, but for those that hold rows that count already.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from calig.storage.catalog import OBJECTS, Ref, Refs, Shard
from calig.storage.lease import Current
from calig.storage.store import Entry, Store
from calig.warehouse.catalog import name
from calig.warehouse.mirror_state import Held, changing_state, read_state
from calig.warehouse.shards import ShardManifest
from calig.warehouse.shared import SHARDED, is_manifest, shard_from, shard_of, unit_of
from calig.warehouse.views import scan

if TYPE_CHECKING:
    from calig.warehouse.mirror import Mirror

log = logging.getLogger(__name__)

PUBLISH_SECONDS = 600.0
"""How long a file waits for another writer to finish before it is published."""
KEYS = ("doc_id", "doc_key", "target")
"""Columns that say which row one is: of attributions the document and its class, of evaluations its number as well."""


def gather(mirror: Mirror, prefixes: Iterable[str]) -> None:
    """Have the shards under these prefixes that workers have finished named; what cannot count is said, and deleted."""
    units = {
        unit_of(entry.name.removeprefix(f"{OBJECTS}/"))
        for prefix in prefixes
        if prefix.startswith(SHARDED)
        for entry in mirror.store.list(f"{OBJECTS}/{prefix}/")
    }
    for unit in sorted(units):
        shards = _find(mirror, unit)
        for shard in name_shards(mirror, unit, shards) if shards else ():
            log.warning(
                "%s: shard %s does not count: documents of it are in another that was finished before",
                unit,
                shard.name,
            )
            with changing_state(mirror.root) as state:
                for file, ref in shard.files.items():
                    if file in state.files and state.files[file].ref == ref:
                        (mirror.root / file).unlink(missing_ok=True)
                        del state.files[file]


def name_shards(mirror: Mirror, unit: str, shards: Sequence[Shard]) -> list[Shard]:
    """Name whole shards of a unit; return those that cannot count."""
    with mirror.leases.writing(PUBLISH_SECONDS) as lease:
        mirror.fetch_named(unit)  # of the shards that count by now, the documents are needed here
        named = mirror.catalog.files(lease.current, unit)
        documents = {
            shard: mirror.root / file for file in named if _is_documents(file) and (shard := shard_of(file))
        }
        with tempfile.TemporaryDirectory(prefix=".gathered-", dir=mirror.root) as folder:
            there = [shard for shard in shards if _find_documents(mirror, shard, documents, Path(folder))]
            pairs = overlaps(documents, [shard.name for shard in there])
        accepted, refused = mirror.catalog.name_shards(
            lease,
            unit,
            there,
            shard_of,
            lambda one, others: any(frozenset((one.name, other.name)) in pairs for other in others),
        )
    with changing_state(mirror.root) as state:
        for file, ref in (item for shard in accepted for item in shard.files.items()):
            held = state.files.get(file)
            if held is not None and held.ref == ref:
                state.files[file] = Held(*ref, True, held.stamp)
    return refused


def _find(mirror: Mirror, unit: str) -> list[Shard]:
    """The whole shards of a unit that are not named yet."""
    while True:
        current, units = mirror.catalog.read(lambda one: one == unit) or (Current(), {})
        try:
            dead = mirror.catalog.tombstones(current)
        except FileNotFoundError:  # superseded since
            continue
        entries = mirror.store.list(f"{OBJECTS}/{unit}/")
        return unnamed_shards(mirror.store, unit, entries, units.get(unit, {}), dead)


def _find_documents(mirror: Mirror, shard: Shard, documents: dict[str, Path], folder: Path) -> bool:
    """Add where a shard's documents are, here or downloaded to a folder; False if another has deleted them."""
    held = read_state(mirror.root).files
    for file, ref in shard.files.items():
        if _is_documents(file) and shard.name not in documents:
            path = mirror.root / file
            if file not in held or held[file].ref != ref or not path.is_file():
                path = folder / f"{shard.name}.parquet"
                try:
                    mirror.store.download(ref.object, path)
                except FileNotFoundError:
                    return False
            documents[shard.name] = path
    return True


def unnamed_shards(
    store: Store, unit: str, entries: Sequence[Entry], named: Refs, dead: Iterable[str]
) -> list[Shard]:
    """Return the whole shards among the objects of a unit that are not named and not deleted, oldest first."""
    passed = {ref.object for ref in named.values()} | set(dead)
    left = [entry for entry in entries if entry.name not in passed]
    shards = []
    for entry in sorted(left, key=lambda entry: (entry.written, entry.name)):
        if not is_manifest(_file_of(entry)):
            continue
        try:
            manifest = ShardManifest.from_json(json.loads(store.read(entry.name)[0]))
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            continue  # deleted meanwhile, or no manifest
        wanted = {f"{unit}/{file}": state for file, state in manifest.files.items()}
        found = {
            _file_of(other): Ref(other.name, other.tag)
            for other in left
            if (state := wanted.get(_file_of(other))) is not None
            and other.size == state.bytes
            and other.name.rpartition("/")[2].startswith(f"{state.sha256[:16]}-")
        }
        shard = shard_from(unit, manifest, Ref(entry.name, entry.tag), found)
        if shard is not None:
            shards.append(shard)
    return shards


def overlaps(documents: Mapping[str, Path], among: Iterable[str]) -> set[frozenset[str]]:
    """Return which shards hold the same row, in pairs one of which is in `among`.

    Parameters
    ----------
    documents
        Shard → its file of documents on this machine.
    among
        Some of these shards.
    """
    own = [path for shard in among if (path := documents.get(shard))]
    if not own or len(documents) < 2:
        return set()
    shards = {str(path): shard for shard, path in documents.items()}
    every = list(documents.values())
    with duckdb.connect() as connection:
        described = connection.execute(f"DESCRIBE SELECT * FROM {scan(every, by_name=True)}").fetchall()
        columns = [name(row[0]) for row in described if row[0] in KEYS]
        same = " AND ".join(f"a.{column} IS NOT DISTINCT FROM b.{column}" for column in columns)
        pairs = connection.execute(
            f"SELECT DISTINCT a.filename, b.filename FROM {scan(own, by_name=True)} a "
            f"JOIN {scan(every, by_name=True)} b ON {same} WHERE a.filename <> b.filename"
        ).fetchall()
    return {frozenset((shards[one], shards[other])) for one, other in pairs}


def _file_of(entry: Entry) -> str:
    return entry.name.removeprefix(f"{OBJECTS}/").rpartition("/")[0]


def _is_documents(file: str) -> bool:
    return file.rpartition("/")[2].startswith("documents-")
