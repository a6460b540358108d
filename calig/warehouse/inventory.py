"""What a finished run is made of: the files of its folder, and the shards of attributions that it counts on.

The manifest of a finished run names every other file of its folder with its hash. One of them, `attributions.parquet`,
has a row for each shard that holds a document of the run: its name and the hash of its manifest, which has the hashes
of the shard's own files. So the run's manifest stays small however many shards there are.

Shards are merged and written anew later (`compact`, `prune`). A shard that is no longer there still counts where
another one lists it under `replaces`; after several mergers, where other shards hold the run's documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from calig.files import sha256_file
from calig.listing import files_below, is_file
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import RunManifest, State, end_run, read_run, write_run
from calig.warehouse.shards import FileState, ShardManifest, completed, manifest_path
from calig.warehouse.views import scan

ATTRIBUTIONS = "attributions.parquet"
LOCK_SECONDS = 60.0
"""How long to wait for another writer of a run's manifest."""


def name_shards(warehouse: Warehouse, run: RunManifest) -> None:
    """Write which shards hold documents of the run, with the hashes of their manifests."""
    folder = warehouse.attributions(run.attribution_key)
    shards = _holding(
        completed(warehouse.files, folder, check=False),
        folder,
        warehouse.run(run.run_id) / "documents.parquet",
    )
    hashes = [sha256_file(manifest_path(folder, shard)) for shard in shards]
    table = pa.table({"shard": pa.array(shards, pa.string()), "sha256": pa.array(hashes, pa.string())})
    with warehouse.files.making(warehouse.run(run.run_id) / ATTRIBUTIONS) as part:
        pq.write_table(table, part, compression="zstd")


def _holding(shards: list[ShardManifest], folder: Path, documents: Path) -> list[str]:
    """The names of the shards that hold one of these documents."""
    shard_of = {str(path): shard.shard for shard in shards for path in shard.paths(folder, "documents")}
    if not shard_of:
        return []
    own = f"SELECT doc_key FROM {scan([documents])}"
    rows = f"SELECT DISTINCT filename FROM {scan([*map(Path, shard_of)])} WHERE doc_key IN ({own})"
    with closing(duckdb.connect()) as connection:
        return sorted(shard_of[filename] for (filename,) in connection.execute(rows).fetchall())


def close_run(warehouse: Warehouse, run_id: str, state: State = "complete") -> None:
    """Say that a run came to its end, and name its files: the last that is written of it."""
    files = {path: asdict(file) for path, file in _files(warehouse.run(run_id)).items()}
    end_run(warehouse, read_run(warehouse, run_id), state, files=files)


def _files(folder: Path, below: str = "") -> dict[str, FileState]:
    """The files of a run's folder, or of one in it, by their names there; not its manifest, nor locks and the like."""
    found = {}
    for path in files_below(folder / below):
        parts = path.relative_to(folder).parts
        if parts != ("manifest.json",) and not any(part.startswith(".") for part in parts):
            found["/".join(parts)] = FileState.of(path)
    return dict(sorted(found.items()))


@contextmanager
def writing_anew(warehouse: Warehouse, run_id: str, below: str) -> Iterator[None]:
    """Keep a finished run's manifest true while files below a folder of it, such as "report", are written anew.

    It names none of them meanwhile: whatever is killed, what it names is as it says. A run that is not finished, or
    is of a version that named no files, is left as it is.

    Raises
    ------
    InputError
        If somebody else is writing the manifest for longer than `LOCK_SECONDS`.
    """
    run = read_run(warehouse, run_id)
    if not run.is_finished or run.files is None:
        yield
        return
    _rename(warehouse, run_id, below, {})
    yield
    _rename(warehouse, run_id, below, _files(warehouse.run(run_id), below))


def _rename(warehouse: Warehouse, run_id: str, below: str, found: dict[str, FileState]) -> None:
    """Have the manifest name these files below a folder, and no others there."""
    with warehouse.writer_lock(warehouse.run(run_id), wait=LOCK_SECONDS):
        run = read_run(warehouse, run_id)
        others = {name: file for name, file in (run.files or {}).items() if not name.startswith(f"{below}/")}
        named: dict[str, Any] = others | {name: asdict(file) for name, file in found.items()}
        write_run(warehouse, replace(run, files=dict(sorted(named.items()))))


def damaged_files(warehouse: Warehouse, run: RunManifest, check: bool) -> list[str]:
    """Return the files that the run's manifest names and that are not as it says: by size or, with `check`, by hash."""
    folder = warehouse.run(run.run_id)
    return [
        name
        for name, file in (run.files or {}).items()
        if not FileState(file["sha256"], file["bytes"]).holds(folder / name, check)
    ]


def lost_documents(warehouse: Warehouse, run: RunManifest) -> int:
    """Return how many of a complete run's documents no shard holds any more; 0 of a run that names no shards."""
    path = warehouse.run(run.run_id) / ATTRIBUTIONS
    if run.status != "complete" or not is_file(path):
        return 0
    folder = warehouse.attributions(run.attribution_key)
    shards = completed(warehouse.files, folder, check=False)
    there = {shard.shard for shard in shards} | {name for shard in shards for name in shard.replaces}
    if there.issuperset(pq.read_table(path, columns=["shard"])["shard"].to_pylist()):
        return 0
    files = [file for shard in shards for file in shard.paths(folder, "documents")]
    held = f"ANTI JOIN {scan(files)} USING (doc_key)" if files else ""
    rows = f"SELECT DISTINCT doc_key FROM {scan([warehouse.run(run.run_id) / 'documents.parquet'])} {held}"
    with closing(duckdb.connect()) as connection:
        return int(connection.execute(f"SELECT count(*) FROM ({rows})").fetchall()[0][0])
