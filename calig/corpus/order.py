"""The order of a corpus's parts: that of a hash of the document's key, so that every prefix is a random sample.

A row's place depends on its document's key alone: not on where the source has it, on its label or on its length. The
hash has a salt of its own: so those that come first are not the documents with the smallest keys, which schedules are
learnt on and plans are made from, nor those that `corpus.sample` or an evaluation draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MEMORY = 32 * 2**20
"""Bytes of rows that are sorted at once; sorting takes twice as much."""
BUCKETS = 64
"""Files that rows are divided among where there are more of them; each is open meanwhile."""

Places = npt.NDArray[np.uint64]
"""Where rows come in an order."""

_PLACE = "\0place"
"""A column beside those of the rows; no column of a corpus is called so."""


def places(keys: Iterable[str]) -> Places:
    """Return where documents come in the order of a corpus: the first 64 bits of the SHA-256 of "order <doc_key>"."""
    digests = b"".join(hashlib.sha256(f"order {key}".encode()).digest()[:8] for key in keys)
    return np.frombuffer(digests, ">u8").astype(np.uint64)


@dataclass(slots=True, eq=False)
class _Bucket:
    """A file of rows whose places are in one range, the lowest and the highest of them."""

    path: Path
    writer: pa.ipc.RecordBatchStreamWriter
    lowest: int
    highest: int


class Sorter:
    """Sort rows by their places, in bounded memory; rows of one place stay in the order in which they come.

    What does not fit is divided among files by ranges of places, and each file is sorted on its own.

    Parameters
    ----------
    folder
        Where the files go, made if there are any; none is left after `rows`.
    end
        What all places are below.
    first
        The lowest place that there may be.
    """

    def __init__(self, folder: Path, end: int = 2**64, first: int = 0) -> None:
        self.folder = folder
        self._first, self._width = first, max(1, -(-(end - first) // BUCKETS))
        self._held: list[pa.Table] = []
        self._bytes = 0
        self._buckets: dict[int, _Bucket] = {}

    def add(self, rows: pa.Table, places: Places) -> None:
        """Take rows and their places."""
        if rows.num_rows:
            self._add(rows.append_column(_PLACE, pa.array(places)))

    def rows(self) -> Iterator[pa.Table]:
        """Give all rows in order, in tables of about `MEMORY` bytes at most; the sorter is empty then."""
        if not self._buckets:
            if self._held:
                yield self._sorted().drop_columns([_PLACE])
            return
        self._divide()
        for bucket in self._buckets.values():
            bucket.writer.close()
        for number in sorted(self._buckets):
            yield from self._rows_of(number)

    def _add(self, rows: pa.Table) -> None:
        self._held.append(rows)
        self._bytes += rows.nbytes
        if self._bytes >= MEMORY:
            self._divide()

    def _sorted(self) -> pa.Table:
        """Return the rows held, sorted, and hold none."""
        held, self._held, self._bytes = self._held, [], 0
        table = pa.concat_tables(held).combine_chunks()
        del held  # there is no need for two copies
        return table.take(pa.array(np.argsort(table[_PLACE].to_numpy(), kind="stable")))

    def _divide(self) -> None:
        """Append the rows held to the files."""
        if not self._held:
            return
        table = self._sorted()
        found = table[_PLACE].to_numpy()
        numbers = (found - np.uint64(self._first)) // np.uint64(self._width)
        starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] + np.uint64(1)))
        for start, end in zip(starts, [*starts[1:], len(found)], strict=True):
            lowest, highest = int(found[start]), int(found[end - 1])
            bucket = self._bucket(int(numbers[start]), table.schema, lowest)
            bucket.lowest, bucket.highest = min(bucket.lowest, lowest), max(bucket.highest, highest)
            bucket.writer.write_table(table.slice(start, end - start))
        del table
        pa.default_memory_pool().release_unused()  # else the process keeps several times what it holds

    def _bucket(self, number: int, schema: pa.Schema, place: int) -> _Bucket:
        if number not in self._buckets:
            self.folder.mkdir(exist_ok=True)
            first = self._first + number * self._width
            path = self.folder / f"{first:016x}-{self._width:x}.arrow"
            writer = pa.ipc.new_stream(path, schema)
            self._buckets[number] = _Bucket(path, writer, place, place)
        return self._buckets[number]

    def _rows_of(self, number: int) -> Iterator[pa.Table]:
        """Give a file's rows in order, and delete it; those of one place are in order as they are."""
        bucket = self._buckets.pop(number)
        first = self._first + number * self._width
        within = Sorter(self.folder, first + self._width, first)
        with pa.OSFile(str(bucket.path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                rows = pa.Table.from_batches([batch])
                if bucket.lowest == bucket.highest:
                    yield rows.drop_columns([_PLACE])
                else:
                    within._add(rows)
        bucket.path.unlink()
        yield from within.rows()
