from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from calig.warehouse.aggregate import aggregate
from calig.warehouse.layout import Warehouse
from tests.material.warehouse_nights import add_night
from tests.material.warehouses import make_texts, make_warehouse


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Two aggregated runs, run-0 with 4 depths and run-1 with 7, in an awkwardly named folder; read only."""
    root: Path = tmp_path_factory.mktemp("it's [a] house") / "ware*house"
    runs = [make_warehouse(root, documents=120), make_warehouse(root, seed=1, depths=7)]
    opened = Warehouse.open(root)
    for run_id in runs:
        aggregate(opened, run_id)
    return opened


@pytest.fixture(scope="session")
def _nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    warehouse = Warehouse.open(tmp_path_factory.mktemp("nights") / "warehouse")
    texts = make_texts(24, 0)
    for number in range(3):
        add_night(warehouse, number, texts[8 * number : 8 * number + 8])
    return warehouse.root


@pytest.fixture
def nights(_nights: Path, tmp_path: Path) -> Warehouse:
    """A warehouse of one's own: the runs nightly-00 to -02 of 8 documents each, a shard a run, all of one key."""
    return Warehouse.open(shutil.copytree(_nights, tmp_path / "warehouse"))
