"""What of a corpus the warehouse holds no attributions of: the work that is left, in shards."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import duckdb
import numpy as np
import numpy.typing as npt

from calig.records import Head
from calig.warehouse.explained import Asked, own_class, shows

Rows = npt.NDArray[np.int64]
"""Row numbers (doc_id) of documents, in the order of their corpus."""


@dataclass(frozen=True, slots=True, eq=False)
class Shards(Sequence[list[int]]):
    """Documents in shards of `size`, in order; only what is asked for is laid out, at 8 bytes a document."""

    doc_ids: Rows
    size: int

    def __len__(self) -> int:
        return -(-len(self.doc_ids) // self.size)

    @overload
    def __getitem__(self, index: int) -> list[int]: ...

    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...

    def __getitem__(self, index: int | slice) -> list[int] | list[list[int]]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        first = range(len(self))[index] * self.size
        found: list[int] = self.doc_ids[first : first + self.size].tolist()
        return found


def missing_documents(
    corpus: Sequence[Path], held: Sequence[Path], asked: Asked = "predicted", head: Head = "single_label"
) -> Rows:
    """Return the documents of which the class that is asked for is not held; of those with the same key, the first one.

    They are in the order of the corpus, so that successive ones lie together: shards of them are ranges of it. Where
    the label is asked for, documents of one key and two labels are two, and those without a label are left out: there
    is nothing to explain of them. A failure that names no class holds for all. Memory beyond the answer is bounded:
    what does not fit goes to a temporary folder.

    Parameters
    ----------
    corpus
        Parquet files with the columns doc_id, doc_key and, where the label is asked for, label; in their order.
    held
        Parquet files of explained documents: rows of `calig.warehouse.columns.DOCUMENT_COLUMNS`.
    asked, head
        Which class is asked for, and what the model's outputs are.
    """
    wanted = _wanted(asked, head)
    if held:
        told = shows(asked)
        of_any = "target IS NULL" if told is None else f"target IS NULL OR (failure IS NULL AND {told})"
        wanted += f" ANTI JOIN (SELECT doc_key FROM read_parquet($held) WHERE {of_any}) USING (doc_key)"
        if told is None:
            one = "SELECT doc_key, target AS own FROM read_parquet($held)"
            wanted += f" ANTI JOIN ({one}) USING (doc_key, own)"
    files = {"corpus": list(map(str, corpus)), **({"held": list(map(str, held))} if held else {})}
    with tempfile.TemporaryDirectory(prefix="calig-") as folder, duckdb.connect() as connection:
        connection.execute("SET temp_directory = ?", [folder])
        connection.execute("SET memory_limit = '1GB'")
        query = f"SELECT doc_id FROM {wanted} ORDER BY place"
        found: Rows = connection.execute(query, files).fetchnumpy()["doc_id"]
    return found.astype(np.int64)


def wanted_documents(corpus: Sequence[Path], asked: Asked, head: Head) -> int:
    """Return how many documents `missing_documents` finds where nothing is held."""
    with duckdb.connect() as connection:
        query = f"SELECT count(*) FROM {_wanted(asked, head)}"
        [(count,)] = connection.execute(query, {"corpus": list(map(str, corpus))}).fetchall()
    return int(count)


def _wanted(asked: Asked, head: Head) -> str:
    """The documents of a corpus to be explained, once each: key, class where it is known, and its first row there."""
    labelled = "WHERE own IS NOT NULL " if asked == "label" else ""
    return (
        "(SELECT doc_key, own, arg_min(doc_id, place) AS doc_id, min(place) AS place FROM (SELECT doc_key, doc_id, "
        f"{own_class(asked, head)} AS own, (file_index::BIGINT << 32) + file_row_number AS place "
        f"FROM read_parquet($corpus)) {labelled}GROUP BY doc_key, own)"
    )
