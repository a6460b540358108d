"""Partial states of a run: small rows of counts and sums that portions of its documents add to.

A state is a multiset of rows. Adding two is putting their rows together; merging is adding up the rows of equal keys.
Sums are of whole units (`calig.warehouse.portions.Units`), so that neither the order of documents nor that of portions
nor the number of threads changes a bit of them. Their size follows from how many classes, words and depths there are.
"""

from __future__ import annotations

import duckdb

from calig.warehouse.catalog import read_sql

KEYS = {
    "layer_state": ("class", "depth"),
    "token_state": ("class", "token"),
    "word_state": ("class", "item"),
    "region_state": ("class", "item"),
    "watched_state": ("class", "item"),
    "total_state": ("class",),
    "patch_state": ("class", "grid_rows", "grid_columns", "patch_row", "patch_column"),
    "class_state": ("class", "class_id"),
    "confusion_state": ("label_id", "predicted_id"),
    "depth_state": ("depth",),
    "error_state": ("depth", "measure", "bin"),
    "run_state": ("run_id",),
}
KINDS = ("word", "region", "watched")
"""Of these the effects of the items that few documents hold are kept."""
FEW = 50
"""Documents up to which the effects of an item are kept one by one, and its interval is made by resampling them."""
GROWTH = 2


class States:
    """A run's states, in temporary tables of a connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._merged = dict.fromkeys((*KEYS, *(f"{kind}_few" for kind in KINDS)), 0)
        connection.execute(read_sql("aggregate/states.sql"))

    def settle(self) -> None:
        """Merge the states that have grown to more than twice what they were when merged last."""
        for table, rows in self._merged.items():
            if self._rows(table) > GROWTH * rows:
                self._merge(table)

    def merge(self) -> None:
        """Merge all: each key has one row then, and what many documents hold none of its effects."""
        for table in self._merged:  # the states before the effects, which are dropped by the states' counts
            self._merge(table)

    def _merge(self, table: str) -> None:
        if table in KEYS:
            self._add_up(table)
        else:
            self._drop_many(table.removesuffix("_few"))
        self._merged[table] = self._rows(table)

    def _add_up(self, table: str) -> None:
        keys = KEYS[table]
        columns = self._connection.execute(f"DESCRIBE {table}").fetchall()
        merged = [_merged(column, kind) for column, kind, *_ in columns if column not in keys]
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {table} AS "
            f"SELECT {', '.join((*keys, *merged))} FROM {table} GROUP BY {', '.join(keys)}"
        )

    def _drop_many(self, kind: str) -> None:
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {kind}_few AS SELECT f.* FROM {kind}_few AS f ANTI JOIN ("
            f"SELECT class, item FROM {kind}_state GROUP BY class, item HAVING sum(documents) > {FEW}"
            ") AS many ON many.class = f.class AND many.item = f.item"
        )

    def _rows(self, table: str) -> int:
        [(rows,)] = self._connection.execute(f"SELECT count(*) FROM {table}").fetchall()
        return int(rows)


def _merged(column: str, kind: str) -> str:
    """How a column of equal keys is merged, in SQL."""
    how = "min" if column.startswith("lowest_") else "max" if column.startswith("greatest_") else "sum"
    return f"{how}({column})::{kind} AS {column}"
