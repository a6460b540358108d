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

Rows = npt.NDArray[np.int64]
"""Row numbers (doc_id) of documents, ascending."""

_FIRST = "SELECT doc_key, min(doc_id) AS doc_id FROM read_parquet($corpus) GROUP BY doc_key"
_ALL = f"SELECT doc_id FROM ({_FIRST}) ORDER BY doc_id"
_MISSING = f"SELECT doc_id FROM ({_FIRST}) ANTI JOIN read_parquet($held) USING (doc_key) ORDER BY doc_id"


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


def missing_documents(corpus: Sequence[Path], held: Sequence[Path]) -> Rows:
    """Return the documents of a corpus that are not held; of those with the same key, the first one.

    Memory beyond the answer is bounded: what does not fit goes to a temporary folder.

    Parameters
    ----------
    corpus
        Parquet files with the columns doc_id and doc_key.
    held
        Parquet files with the column doc_key.
    """
    files = {"corpus": list(map(str, corpus)), **({"held": list(map(str, held))} if held else {})}
    with tempfile.TemporaryDirectory(prefix="calig-") as folder, duckdb.connect() as connection:
        connection.execute("SET temp_directory = ?", [folder])
        connection.execute("SET memory_limit = '1GB'")
        found: Rows = connection.execute(_MISSING if held else _ALL, files).fetchnumpy()["doc_id"]
    return found.astype(np.int64)
