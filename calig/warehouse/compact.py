"""Merging small shards into large ones, since many small Parquet files are slow to query.

Crash-safe by order: the merged files, then the merged manifest (which lists under `replaces` what it was
merged from, so that those count no more), then the deletion of the old ones, manifest first, unless they are being
read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from calig.files import Files
from calig.formats import stamp
from calig.listing import exists
from calig.warehouse.pins import unpinned
from calig.warehouse.shards import (
    ROW_GROUP,
    FileState,
    ShardManifest,
    by_class,
    completed,
    manifest_path,
    open_writer,
    payments,
    row_keys,
    shard_name,
)

TARGET_BYTES = 128 * 2**20
"""Size that merged shards are to reach."""


def compact(
    files: Files, folder: Path, target_bytes: int = TARGET_BYTES, min_files: int = 20
) -> list[ShardManifest]:
    """Merge the small shards of a folder, and return the shards that count afterwards.

    Which shards are merged, and the order of the rows, depend on the shards' names and sizes only. A row, of a
    document and class, that two merged shards hold is kept once, from the first. Only one process may do this to a
    folder at a time.

    Parameters
    ----------
    files, folder
        The warehouse's files, and the attribution key's folder.
    target_bytes
        Size a merged shard is to reach; a shard is small below half of it.
    min_files
        Nothing is merged while there are fewer small shards than this.
    """
    shards = completed(files, folder)
    tidy(files, folder, shards)
    small = [manifest for manifest in shards if manifest.bytes < target_bytes / 2]
    if len(small) < min_files:
        return shards
    for group in _groups(small, target_bytes):
        _merge(files, folder, group, _kept_keys(folder, group))
    shards = completed(files, folder, check=False)
    tidy(files, folder, shards)
    return shards


def tidy(files: Files, folder: Path, shards: Iterable[ShardManifest]) -> None:
    """Delete what is left of the shards that those that count were merged from, or written anew from.

    While somebody reads them they stay, and count no more: the next compaction or prune deletes them.
    """
    with unpinned(folder) as free:
        if free:
            for manifest in shards:
                for shard in manifest.replaces:
                    delete_shard(files, folder, shard)


def rewrite(files: Files, folder: Path, manifest: ShardManifest, keys: pa.Array) -> None:
    """Write a shard anew with the rows of these keys (`row_keys`) alone.

    The old one counts no more, and is left to `tidy`.

    Crash-safe as merging is; only one process may do this to a folder at a time.
    """
    _merge(files, folder, [manifest], [keys])


def delete_shard(files: Files, folder: Path, shard: str) -> None:
    """Delete a shard, manifest first, so that whatever is killed there is no half of it that counts."""
    files.discard(manifest_path(folder, shard))
    for kind in ("tokens", "documents"):
        files.discard(folder / f"{kind}-{shard}.parquet")


def _groups(small: Sequence[ShardManifest], target_bytes: int) -> list[list[ShardManifest]]:
    groups: list[list[ShardManifest]] = [[]]
    for manifest in small:
        if groups[-1] and sum(other.bytes for other in groups[-1]) + manifest.bytes > target_bytes:
            groups.append([])
        groups[-1].append(manifest)
    return [group for group in groups if len(group) > 1]


@dataclass(frozen=True, slots=True)
class _Source:
    """A file, the keys of the rows that are kept of it, and whether they are of a document and class."""

    path: Path
    keys: pa.Array
    by_class: bool


def _merge(files: Files, folder: Path, group: Sequence[ShardManifest], kept: Sequence[pa.Array]) -> None:
    """Write the rows of the keys `kept`, per shard, of a group of shards as one."""
    shard = shard_name([manifest.shard for manifest in group])
    counts = dict.fromkeys(("documents", "failures", "tokens"), 0)
    states: dict[str, FileState] = {}
    classes = [by_class(manifest.paths(folder, "documents")[0]) for manifest in group]
    for kind in ("documents", "tokens"):
        sources = [
            _Source(path, keys, classed)
            for manifest, keys, classed in zip(group, kept, classes, strict=True)
            for path in manifest.paths(folder, kind)
        ]
        if not sources:
            continue
        schema = max((pq.read_schema(source.path) for source in sources), key=len)
        path = folder / f"{kind}-{shard}.parquet"
        with files.making(path) as part:
            with open_writer(part, schema) as writer:
                for table in _row_groups(sources, schema):
                    writer.write_table(table, row_group_size=ROW_GROUP)
                    counts[kind] += table.num_rows
                    if kind == "documents":
                        counts["failures"] += table.num_rows - table["failure"].null_count
            states[path.name] = FileState.of(part)
    engines = {manifest.engine_version for manifest in group}
    manifest = ShardManifest(
        shard=shard,
        documents=counts["documents"],
        failures=counts["failures"],
        tokens=counts["tokens"],
        seconds=sum(manifest.seconds for manifest in group),
        files=states,
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        replaces=(*(manifest.shard for manifest in group), *_left(folder, group)),
        paid=payments(group),
        **{**stamp(), "engine_version": engines.pop() if len(engines) == 1 else None},
    )
    files.write_json(manifest_path(folder, shard), manifest.to_json())


def _left(folder: Path, group: Sequence[ShardManifest]) -> list[str]:
    """Return the shards that those of a group replaced and that are there still, being read: they would count again."""
    before = [shard for manifest in group for shard in manifest.replaces]
    return [shard for shard in before if exists(manifest_path(folder, shard))]


def _kept_keys(folder: Path, group: Sequence[ShardManifest]) -> list[pa.Array]:
    """Return, per shard, the keys it holds that no shard before it does."""
    seen: set[str] = set()
    kept: list[pa.Array] = []
    for manifest in group:
        keys: set[str] = set()
        for path in manifest.paths(folder, "documents"):
            table = pq.read_table(path, columns=["doc_key", "target"])
            keys.update(row_keys(table, by_class(path)).to_pylist())
        kept.append(pa.array(sorted(keys - seen), pa.string()))
        seen |= keys
    return kept


def _row_groups(sources: Sequence[_Source], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the kept rows of all sources in tables of about ROW_GROUP rows.

    Columns that a file of an older version lacks are null.
    """
    pending: list[pa.Table] = []
    for source in sources:
        with pq.ParquetFile(source.path) as file:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number)
                wanted = pc.is_in(row_keys(table, source.by_class), value_set=source.keys)
                pending.append(_conformed(table.filter(wanted), schema))
                if sum(other.num_rows for other in pending) >= ROW_GROUP:
                    yield pa.concat_tables(pending).unify_dictionaries()
                    pending = []
    if pending:
        yield pa.concat_tables(pending).unify_dictionaries()


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[field.name] if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
