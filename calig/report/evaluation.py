"""Write an evaluation's report into its folder."""

from __future__ import annotations

from pathlib import Path

from calig.files import write_atomic
from calig.warehouse.layout import Warehouse


def build(warehouse_root: Path, evaluation_id: str) -> Path:
    """Write the report of an evaluation; return its path."""
    path = Warehouse.open(warehouse_root).evaluation(evaluation_id) / "report" / "index.html"
    write_atomic(path, f"<!doctype html><html><title>{evaluation_id}</title></html>".encode())
    return path
