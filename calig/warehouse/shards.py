"""Shards of results: written whole or not at all, checked by hash, named by the documents they hold.

A shard is some files `<kind>-<shard>.parquet` and, written last, `manifest-<shard>.json`. Of attributions the kinds are
tokens (absent when every document failed) and documents, with rows sorted by doc_key and class: the content depends on
the documents, and the classes asked for, only. Those of evaluations are in `calig.warehouse.evaluations`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from calig.errors import NewerError
from calig.files import PART_SUFFIX, Files, sha256_file
from calig.formats import readable, stamp
from calig.listing import exists, is_file, matching
from calig.records import Attribution, Failure, Modality
from calig.warehouse.columns import document_table, token_table

logger = logging.getLogger(__name__)

ROW_GROUP = 122_880  # rows; DuckDB's own
NO_CLASS = -1
"""Stands for the class of a failure that holds for all classes."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What a file must be: its SHA-256 (hex) and its size in bytes."""

    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """What a file is now."""
        return cls(sha256_file(path), path.stat().st_size)

    def holds(self, path: Path, check: bool) -> bool:
        """Tell whether `path` has this size and, with `check`, this hash."""
        if not is_file(path) or path.stat().st_size != self.bytes:
            return False
        return not check or sha256_file(path) == self.sha256


@dataclass(frozen=True, slots=True)
class ShardManifest:
    """What a finished shard holds.

    Attributes
    ----------
    shard
        Its name.
    documents, failures, tokens
        Documents in it, failed ones included, each once for each class; failed ones; tokens.
    seconds
        Wall-clock time it took to compute.
    files
        Its files by name.
    written
        When, ISO 8601, UTC.
    replaces
        Names of the shards it was merged from, which no longer count.
    paid
        Run id → block passes and seconds that this run spent on its documents; empty in shards of before this was
        recorded, and of evaluations.
    format, engine_version, calig_version
        By which version it was written (`calig.formats`): format 1, and None, where it does not say.
    """

    shard: str
    documents: int
    failures: int
    tokens: int
    seconds: float
    files: dict[str, FileState]
    written: str
    replaces: tuple[str, ...] = ()
    paid: dict[str, tuple[int, float]] = field(default_factory=dict)
    format: int = 1
    engine_version: int | None = None
    calig_version: str | None = None

    @property
    def bytes(self) -> int:
        """Size of all files, in bytes."""
        return sum(file.bytes for file in self.files.values())

    def paths(self, folder: Path, kind: str) -> list[Path]:
        """Return the paths of its files of a `kind`, such as "documents": one, or none."""
        return [folder / name for name in self._names(kind)]

    def size(self, kind: str) -> int:
        """Return the size of its files of a `kind`, in bytes."""
        return sum(self.files[name].bytes for name in self._names(kind))

    def _names(self, kind: str) -> list[str]:
        return [name for name in self.files if name.startswith(f"{kind}-")]

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ShardManifest:
        """Read what `to_json` wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is anything else.
        NewerError
            If it is of a newer format.
        """
        value = readable(f"shard {value['shard']}" if "shard" in value else "a shard", value)
        files = {
            name: FileState(state["sha256"], int(state["bytes"])) for name, state in value["files"].items()
        }
        if any(Path(name).name != name for name in files):
            raise ValueError("a shard's files lie beside its manifest")
        paid = {run: (int(passes), float(spent)) for run, (passes, spent) in value.get("paid", {}).items()}
        return cls(**{**value, "files": files, "replaces": tuple(value["replaces"]), "paid": paid})


def shard_name(keys: Sequence[str]) -> str:
    """Name a shard by the keys it holds, whatever their order: 16 hex digits of a SHA-256."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:16]


def manifest_path(folder: Path, shard: str) -> Path:
    """Return the path of a shard's manifest."""
    return folder / f"manifest-{shard}.json"


def write_shard(
    files: Files,
    folder: Path,
    items: Sequence[Attribution | Failure],
    seconds: float,
    modality: Modality = "text",
    run_id: str | None = None,
    name: str | None = None,
) -> ShardManifest:
    """Write the results for some documents as one shard.

    Parameters
    ----------
    files, folder
        The warehouse's files, and the attribution key's folder, created if need be.
    items
        Results in any order, all of one model; of a document none of the same class twice.
    seconds
        Wall-clock time the shard took.
    modality
        What the documents are, which the columns follow.
    run_id
        The run that computed them.
    name
        The shard's name, where it was known before the classes were (see `asked_name`); None: by keys and classes.

    Returns
    -------
    ShardManifest
        The manifest, which is on disk, as are the files.

    Raises
    ------
    ValueError
        If there are no items, a key comes twice with one class, the attributions differ in their number of
        blocks, or one of an image has no patches.
    """
    ordered = sorted(items, key=lambda item: (item.key, NO_CLASS if item.target is None else item.target))
    keys = [row_key(item.key, item.target) for item in ordered]
    if not keys or len(set(keys)) != len(keys):
        raise ValueError("a shard needs at least one document, and each only once with one class")
    attributions = [item for item in ordered if isinstance(item, Attribution)]
    tables = {"documents": document_table(ordered, modality)}
    if attributions:
        tables["tokens"] = token_table(attributions, modality)
    return write_tables(
        files,
        folder,
        name or shard_name(keys),
        tables,
        documents=len(ordered),
        failures=len(ordered) - len(attributions),
        tokens=sum(len(a.tokens) for a in attributions),
        seconds=seconds,
        paid={} if run_id is None else {run_id: _spent(attributions)},
    )


def asked_name(documents: Iterable[tuple[str, str | int | None]]) -> str:
    """Name a shard by what is asked for: per document its key, and a class index, `predicted` or `runner-up`."""
    return shard_name([f"{key} {asked}" for key, asked in documents])


def row_key(key: str, target: int | None) -> str:
    """Return what a row is known by among those of its attribution key: its document and, but for failures, class."""
    return f"{key} {NO_CLASS if target is None else target}"


def row_keys(table: pa.Table, by_class: bool) -> pa.Array:
    """Return what rows of a documents or tokens file are known by: `row_key`, or the document's key alone."""
    keys = table["doc_key"].cast(pa.string())
    if by_class:
        classes = pc.fill_null(table["target"], NO_CLASS).cast(pa.string())
        keys = pc.binary_join_element_wise(keys, classes, " ")
    return keys.combine_chunks()


def by_class(path: Path) -> bool:
    """Whether a documents file has rows of several classes, and not, as those of before, one row a document."""
    return "rival" in pq.read_schema(path).names


def held_rows(files: Files, folder: Path, check: bool = True) -> set[str]:
    """Return what the rows in the shards that count are known by (see `completed` and `row_keys`)."""
    found: set[str] = set()
    for manifest in completed(files, folder, check):
        for path in manifest.paths(folder, "documents"):
            table = pq.read_table(path, columns=["doc_key", "target"])
            found.update(row_keys(table, by_class(path)).to_pylist())
    return found


def _spent(attributions: Sequence[Attribution]) -> tuple[int, float]:
    return sum(a.block_passes for a in attributions), sum(a.seconds for a in attributions)


def write_tables(
    files: Files,
    folder: Path,
    shard: str,
    tables: Mapping[str, pa.Table],
    *,
    documents: int,
    failures: int,
    tokens: int,
    seconds: float,
    paid: Mapping[str, tuple[int, float]] | None = None,
) -> ShardManifest:
    """Write tables, by kind, as the files of one shard, and its manifest last.

    Parameters
    ----------
    files, folder
        The warehouse's files, and where the shard lies, created if need be.
    shard
        The shard's name.
    tables
        Kind of file → its rows.
    documents, failures, tokens, seconds, paid
        As in `ShardManifest`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = {f"{kind}-{shard}.parquet": table for kind, table in tables.items()}
    manifest = ShardManifest(
        shard=shard,
        documents=documents,
        failures=failures,
        tokens=tokens,
        seconds=seconds,
        files={name: _write_table(files, folder / name, table) for name, table in names.items()},
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        paid=dict(paid or {}),
        **stamp(),
    )
    files.write_json(manifest_path(folder, shard), manifest.to_json())
    return manifest


def open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a Parquet file for writing: zstd, floats in BYTE_STREAM_SPLIT, thumbnails plain, else dictionaries."""
    floats = [field.name for field in schema if field.type == pa.float32()]
    plain = {*floats, *(field.name for field in schema if field.type == pa.binary())}
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=[field.name for field in schema if field.name not in plain],
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
    )


def _write_table(files: Files, path: Path, table: pa.Table) -> FileState:
    with files.making(path) as part:
        with open_writer(part, table.schema) as writer:
            writer.write_table(table, row_group_size=ROW_GROUP)
        return FileState.of(part)


def completed(files: Files, folder: Path, check: bool = True) -> list[ShardManifest]:
    """Return the manifests of the shards that count, sorted by name.

    Parameters
    ----------
    files, folder
        The warehouse's files, and the shards' folder; may be missing.
    check
        Hash every file, and set the manifest of a damaged shard aside (renamed to ``….damaged``) so that the
        shard is done again. Without it, only sizes are looked at and nothing is renamed: for readers.

    Raises
    ------
    NewerError
        If a shard is of a newer format: it may hold what others are to hold, or replace them.
    """
    whole: list[ShardManifest] = []
    files.fetch(folder)
    counted = files.counted(folder)
    for path in matching(folder, "manifest-*.json"):
        if counted is not None and path.name not in counted:
            continue
        try:
            manifest = ShardManifest.from_json(json.loads(path.read_bytes()))
            damaged = [
                name for name, state in manifest.files.items() if not state.holds(folder / name, check)
            ]
        except FileNotFoundError:  # replaced by a merged shard meanwhile
            continue
        except (ValueError, KeyError, TypeError, AttributeError):
            damaged = [path.name]
        if not damaged:
            whole.append(manifest)
            continue
        logger.warning("shard %s is damaged (%s): it does not count", path.name[9:-5], ", ".join(damaged))
        if check:
            path.replace(path.with_name(f"{path.name}.damaged"))
            files.withdraw(path)
    replaced = {shard for manifest in whole for shard in manifest.replaces}
    return [manifest for manifest in whole if manifest.shard not in replaced]


def held(files: Files, folder: Path, check: bool = True, column: str = "doc_key") -> set[Any]:
    """Return the keys of the documents, failed ones too, in the shards that count (see `completed`).

    `column` names another column of the documents files that is wanted in their place.
    """
    keys: set[Any] = set()
    for manifest in completed(files, folder, check):
        for path in manifest.paths(folder, "documents"):
            keys.update(pq.read_table(path, columns=[column])[column].to_pylist())
    return keys


def payments(manifests: Iterable[ShardManifest]) -> dict[str, tuple[int, float]]:
    """Return, by run id, the block passes and seconds that each run spent on these shards."""
    paid: dict[str, tuple[int, float]] = {}
    for manifest in manifests:
        for run_id, (passes, seconds) in manifest.paid.items():
            before = paid.get(run_id, (0, 0.0))
            paid[run_id] = before[0] + passes, before[1] + seconds
    return paid


def sweep(folder: Path, older_than: float = 3600.0) -> list[Path]:
    """Delete what killed writers left: temporary files, and Parquet files without a manifest.

    Where a manifest is of a newer format, which may call its files otherwise, only temporary files go.

    Parameters
    ----------
    folder
        The shards' folder; may be missing.
    older_than
        Age in seconds below which a file is left alone, since its writer may be at work.

    Returns
    -------
    list of Path
        What was deleted.
    """
    limit = time.time() - older_than
    manifests = {path.name[len("manifest-") : -len(".json")] for path in matching(folder, "manifest-*.json")}
    leftovers = matching(folder, f".*{PART_SUFFIX}")
    for path in [] if _any_newer(folder) else matching(folder, "*-*.parquet"):
        if path.stem.partition("-")[2] not in manifests:
            leftovers.append(path)
    deleted = [path for path in sorted(leftovers) if exists(path) and path.stat().st_mtime <= limit]
    for path in deleted:
        path.unlink(missing_ok=True)
    return deleted


def _any_newer(folder: Path) -> bool:
    """Whether a manifest in a folder is of a newer format."""
    for path in matching(folder, "manifest-*.json"):
        try:
            readable(path.name, json.loads(path.read_bytes()))
        except NewerError:
            return True
        except (FileNotFoundError, ValueError, TypeError):
            continue
    return False
