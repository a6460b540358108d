"""Rows of the report's queries, which are in `sql/`."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import duckdb

Row = dict[str, Any]


def fetch(con: duckdb.DuckDBPyConnection, query: str, **parameters: object) -> list[Row]:
    """What `sql/<query>.sql` finds, each row by column name."""
    result = con.execute(_sql(query), parameters)
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


@cache
def _sql(name: str) -> str:
    return resources.files("calig.report").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
