"""What killed writers leave is deleted, but nothing that a writer at work may still need."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from calig.warehouse.layout import Warehouse
from calig.warehouse.leftovers import sweep_warehouse

LEFT = (
    *("runs/r/.manifest.json.01ab.part", "schedules/.k.json.01ab.part", ".calig.duckdb.01ab.part"),
    *(".calig.duckdb.01ab.part.wal", ".spill-x/piece", "corpora/.ingest-1/part-0.parquet"),
    "runs/half/documents.parquet",
    *("attributions/k/.tokens-a.parquet.01ab.part", "attributions/k/tokens-a.parquet"),
)
KEPT = ("runs/r/manifest.json", "corpora/c/part-0.parquet", "attributions/k/manifest-b.json", "notes.part")


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    for name in (*LEFT, *KEPT, "attributions/k/tokens-b.parquet"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return Warehouse.open(tmp_path)


def _there(warehouse: Warehouse) -> set[str]:
    return {name for name in (*LEFT, *KEPT) if (warehouse.root / name).exists()}


def test_at_rest_all_that_is_left_goes(warehouse: Warehouse) -> None:
    sweep_warehouse(warehouse)
    assert _there(warehouse) == set(KEPT)
    assert (warehouse.root / "attributions/k/tokens-b.parquet").exists()
    assert sweep_warehouse(warehouse) == []


def test_while_somebody_is_at_work_only_what_is_old_goes(warehouse: Warehouse) -> None:
    old = warehouse.root / LEFT[0]
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    with warehouse.at_work(), warehouse.at_work():
        assert sweep_warehouse(warehouse) == [old]
    assert _there(warehouse) == {*LEFT, *KEPT} - {LEFT[0]}
