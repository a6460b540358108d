"""What a query shows is the chosen run, in tables as in views; `runs` shows them all."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from calig.warehouse.aggregate import aggregate
from calig.warehouse.catalog import TABLES, VIEWS
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import query
from tests.material.warehouses import make_warehouse


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    root: Path = tmp_path_factory.mktemp("nights")
    for day, run_id in enumerate(("first", "second"), start=1):
        make_warehouse(root, documents=60, run_id=run_id, started=datetime(2026, 1, day, tzinfo=UTC))
        aggregate(Warehouse(root), run_id)
    return Warehouse(root)


@pytest.mark.parametrize(
    ("run", "shown"), [("latest", {"second"}), ("previous", {"first"}), ("all", {"first", "second"})]
)
def test_tables_and_views_show_the_chosen_runs(nights: Warehouse, run: str, shown: set[str]) -> None:
    of_images = {"patches", "thumbnails", "document_maps", "region_stats", "patch_stats"}
    of_audits = {"watched", "gates", *(table for table in TABLES if table.startswith("comparison"))}
    for table in {*TABLES, *VIEWS} - {"runs", "failures"} - of_images - of_audits:
        assert {row[0] for row in query(nights, f"SELECT DISTINCT run_id FROM {table}", run).rows} == shown, (
            table
        )
    assert query(nights, "SELECT run_id FROM runs ORDER BY 1", run).rows == [("first",), ("second",)]
