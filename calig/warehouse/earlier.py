"""Attributions of versions whose keys held what is asked for: taken over under the key of now, and not computed again.

The old folder stays for the runs that read it, until these are pruned. Where documents were explained for their labels,
the old keys of documents held these too, and nothing can be taken over.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from calig.listing import exists, is_folder
from calig.warehouse.layout import Warehouse
from calig.warehouse.shards import ShardManifest, completed, write_tables

logger = logging.getLogger(__name__)

LOCK_SECONDS = 600.0
"""How long to wait for an audit that is writing under the new key."""


def take_over(warehouse: Warehouse, before: str, key: str) -> int:
    """Write what an old attribution key holds under the new one, unless that is done; return how many documents.

    A file that says so is written last: killed before, it is done again, to the same names.

    Raises
    ------
    InputError
        An audit is writing under the new key.
    """
    old, new = warehouse.attributions(before), warehouse.attributions(key)
    done = new / f"before-{before}.json"
    warehouse.files.fetch(new)
    if exists(done):
        return 0
    warehouse.files.fetch(old)
    if not is_folder(old):
        return 0
    with warehouse.writer_lock(new, wait=LOCK_SECONDS):
        shards = completed(warehouse.files, old)
        for shard in shards:
            write_tables(
                warehouse.files,
                new,
                shard.shard,
                _with_classes(old, shard),
                documents=shard.documents,
                failures=shard.failures,
                tokens=shard.tokens,
                seconds=shard.seconds,
                paid=shard.paid,
            )
        warehouse.files.write_json(done, {"shards": [shard.shard for shard in shards]})
    documents = sum(shard.documents for shard in shards)
    logger.info("attributions of %d documents are taken over from an earlier version's key", documents)
    return documents


def _with_classes(folder: Path, shard: ShardManifest) -> dict[str, pa.Table]:
    """A shard's tables with the class in both, as `calig.warehouse.columns` has them; rivals are not known."""
    [path] = shard.paths(folder, "documents")
    documents = pq.read_table(path)
    place = documents.column_names.index("target") + 1
    rival = pa.nulls(documents.num_rows, pa.int32())
    tables = {"documents": documents.add_column(place, pa.field("rival", pa.int32()), rival)}
    for path in shard.paths(folder, "tokens"):
        tokens = pq.read_table(path)
        explained = documents.filter(pc.is_null(documents["failure"]))
        row = pc.index_in(
            tokens["doc_key"].cast(pa.string()), value_set=explained["doc_key"].combine_chunks()
        )
        target = explained["target"].combine_chunks().take(row.combine_chunks())
        field = pa.field("target", pa.int32())
        tables["tokens"] = tokens.add_column(tokens.column_names.index("ig_00"), field, target)
    return tables
