"""The Parquet parts of a corpus, of bounded size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

PART_ROWS, PART_BYTES = 100_000, 128 * 2**20
GROUP_ROWS, GROUP_BYTES = 20_000, 32 * 2**20

_ENCODINGS = {"doc_id": "DELTA_BINARY_PACKED"}
"""Looked through for each shard, since doc_ids come in no order: takes a seventh of the time of a dictionary."""
_ALL_DIFFER = ("doc_id", "doc_key")


class Parts:
    """Write rows to part-00000.parquet and so on, in row groups and files of bounded size.

    The files depend on the rows alone, not on the tables in which they are written.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, schema
        self._group: list[pa.RecordBatch] = []
        self._group_rows = self._group_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._count = self._rows = self._bytes = 0

    def write(self, rows: pa.Table) -> None:
        """Take the next rows; they reach the disk with the row group they fill, or on `close`."""
        for batch in rows.to_batches():
            ends = np.cumsum(sum(map(_sizes, batch.columns), np.zeros(len(batch), np.int64)))
            first = 0
            while first < len(batch):
                start = int(ends[first - 1]) if first else 0
                filled = int(np.searchsorted(ends, start + GROUP_BYTES - self._group_bytes)) + 1
                end = min(filled, first + GROUP_ROWS - self._group_rows, len(batch))
                self._group.append(batch.slice(first, end - first))
                self._group_rows += end - first
                self._group_bytes += int(ends[end - 1]) - start
                if self._group_rows >= GROUP_ROWS or self._group_bytes >= GROUP_BYTES:
                    self._write_group()
                first = end

    def close(self) -> None:
        """Write what is pending and finish the last part; a corpus without rows has one part without any."""
        if self._group or not (self._count or self._writer):
            self._write_group()
        self._close_part()

    def _write_group(self) -> None:
        group = pa.Table.from_batches(self._group, self.schema).combine_chunks()  # pages end where chunks do
        if self._writer is None:
            path = self.folder / f"part-{self._count:05d}.parquet"
            self._writer = pq.ParquetWriter(
                path,
                self.schema,
                compression="zstd",
                use_dictionary=[name for name in self.schema.names if name not in _ALL_DIFFER],
                column_encoding=_ENCODINGS,
            )
        self._writer.write_table(group)
        self._rows += self._group_rows
        self._bytes += self._group_bytes
        self._group, self._group_rows, self._group_bytes = [], 0, 0
        if self._rows >= PART_ROWS or self._bytes >= PART_BYTES:
            self._close_part()

    def _close_part(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._count += 1
            self._rows = self._bytes = 0


def _sizes(column: pa.Array) -> npt.NDArray[np.int64]:
    """Bytes of each row's values: unlike `nbytes`, the same whatever array they are in."""
    kind = column.type
    if pat.is_string(kind) or pat.is_binary(kind):
        lengths = pc.fill_null(pc.binary_length(column), 0)
        return np.asarray(lengths.to_numpy(zero_copy_only=False).astype(np.int64))
    if pat.is_list(kind):
        ends = np.concatenate([[0], np.cumsum(_sizes(column.flatten()))])
        counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        last = np.cumsum(counts)
        return np.asarray(ends[last] - ends[last - counts])
    if pat.is_struct(kind):
        return sum(map(_sizes, column.flatten()), np.zeros(len(column), np.int64))
    return np.full(len(column), max(1, kind.bit_width // 8), np.int64)
