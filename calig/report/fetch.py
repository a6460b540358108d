"""Rows of the report's queries, which are in `sql/`."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import duckdb

from calig.warehouse.database import records

Row = dict[str, Any]


def fetch(con: duckdb.DuckDBPyConnection, query: str, **parameters: object) -> list[Row]:
    """What `sql/<query>.sql` finds, each row by column name."""
    return records(con.execute(_sql(query), parameters))


@cache
def _sql(name: str) -> str:
    return resources.files("calig.report").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
