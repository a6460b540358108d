"""What a finished run names: its files, by their hashes, and its shards, which may be merged later."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from calig.doctor import examine
from calig.files import write_atomic
from calig.warehouse.compact import compact, delete_shard
from calig.warehouse.inventory import close_run, damaged_files, lost_documents, name_shards, writing_anew
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import read_run
from calig.warehouse.shards import completed
from tests.material.warehouses import make_warehouse

RUN = "run-0"


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """A run of 12 documents in 4 shards, closed."""
    warehouse = Warehouse.open(tmp_path / "w")
    make_warehouse(warehouse.root, documents=12, depths=2, shards=4, run_id=RUN)
    write_atomic(warehouse.run(RUN) / "report" / "index.html", b"page")
    name_shards(warehouse, read_run(warehouse, RUN))
    close_run(warehouse, RUN)
    return warehouse


def test_a_closed_run_names_its_files(warehouse: Warehouse) -> None:
    run = read_run(warehouse, RUN)
    assert run.status == "complete"
    assert run.files is not None
    assert set(run.files) == {"attributions.parquet", "documents.parquet", "report/index.html"}
    assert damaged_files(warehouse, run, check=True) == []
    (warehouse.run(RUN) / "report" / "index.html").write_bytes(b"pagf")
    (warehouse.run(RUN) / "documents.parquet").unlink()
    assert damaged_files(warehouse, run, check=False) == ["documents.parquet"]
    assert damaged_files(warehouse, run, check=True) == ["documents.parquet", "report/index.html"]
    found = [one.text for one in examine(warehouse.root, fix=True) if one.subject == f"run {RUN}"]
    assert any(text.endswith(f"`calig report {RUN}` writes it again") for text in found)


def test_a_file_that_is_written_anew_is_named_before_and_after_and_not_meanwhile(
    warehouse: Warehouse,
) -> None:
    def named() -> set[str]:
        return set(read_run(warehouse, RUN).files or ())

    with writing_anew(warehouse, RUN, "report"):
        assert named() == {"attributions.parquet", "documents.parquet"}
        write_atomic(warehouse.run(RUN) / "report" / "index.html", b"another page")
    assert named() == {"attributions.parquet", "documents.parquet", "report/index.html"}
    assert damaged_files(warehouse, read_run(warehouse, RUN), check=True) == []


def test_shards_are_found_again_after_mergers_and_missed_when_they_are_gone(warehouse: Warehouse) -> None:
    run = read_run(warehouse, RUN)
    folder = warehouse.attributions(run.attribution_key)
    named = pq.read_table(warehouse.run(RUN) / "attributions.parquet")["shard"].to_pylist()
    assert named == sorted(shard.shard for shard in completed(warehouse.files, folder))
    assert lost_documents(warehouse, run) == 0
    compact(warehouse.files, folder, min_files=2)
    [merged] = completed(warehouse.files, folder)
    assert set(merged.replaces) == set(named)
    assert lost_documents(warehouse, run) == 0
    delete_shard(warehouse.files, folder, merged.shard)
    keys = pq.read_table(warehouse.run(RUN) / "documents.parquet")["doc_key"].to_pylist()
    assert lost_documents(warehouse, run) == len(set(keys))
