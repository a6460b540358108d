from __future__ import annotations

from pathlib import Path

import pytest

from calig.warehouse.aggregate import aggregate
from calig.warehouse.layout import Warehouse
from tests.material.warehouses import make_warehouse


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Two aggregated runs, run-0 with 4 depths and run-1 with 7, in an awkwardly named folder; read only."""
    root: Path = tmp_path_factory.mktemp("it's [a] house") / "ware*house"
    runs = [make_warehouse(root, documents=120), make_warehouse(root, seed=1, depths=7)]
    opened = Warehouse.open(root)
    for run_id in runs:
        aggregate(opened, run_id)
    return opened
