"""Tables of an earlier version: read as they are, and brought up to date by the next writer."""

from __future__ import annotations

from pathlib import Path

import duckdb

from calig.warehouse.aggregate import aggregate
from calig.warehouse.database import ADDED, columns_of, expected_columns
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import query
from calig.warehouse.refresh import refresh_tables
from tests.material.warehouses import make_warehouse


def test_tables_that_lack_the_new_columns(tmp_path: Path) -> None:
    run_id = make_warehouse(tmp_path)
    warehouse = Warehouse.open(tmp_path)
    aggregate(warehouse, run_id)
    with duckdb.connect(warehouse.database) as connection:
        for table, column in ADDED:
            connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    refresh_tables(warehouse)  # which they need not: they are read as they are
    shown = query(warehouse, "SELECT run_id, notes, label_order, label_order_accuracy FROM runs")
    assert shown.rows == [(run_id, None, None, None)]
    aggregate(warehouse, run_id)
    with duckdb.connect(warehouse.database) as connection:
        assert columns_of(connection) == expected_columns()
    assert query(warehouse, "SELECT notes FROM runs").rows == [([],)]
