"""The Parquet parts of a corpus, of bounded size."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PART_ROWS, PART_BYTES = 100_000, 128 * 2**20
GROUP_ROWS, GROUP_BYTES = 20_000, 32 * 2**20


class Parts:
    """Write rows to part-00000.parquet and so on, in row groups and files of bounded size."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, schema
        self._pending: list[pa.Table] = []
        self._pending_rows = self._pending_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._count = self._rows = self._bytes = 0

    def write(self, rows: pa.Table) -> None:
        """Take the next rows; they reach the disk with the row group they fill, or on `close`."""
        self._pending.append(rows)
        self._pending_rows += rows.num_rows
        self._pending_bytes += rows.nbytes
        if self._pending_rows >= GROUP_ROWS or self._pending_bytes >= GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        """Write what is pending and finish the last part; a corpus without rows has one part without any."""
        if not self._count and self._writer is None and not self._pending:
            self._pending.append(self.schema.empty_table())
        self._write_group()
        self._close_part()

    def _write_group(self) -> None:
        if not self._pending:
            return
        group = pa.concat_tables(self._pending)
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        if self._writer is None:
            path = self.folder / f"part-{self._count:05d}.parquet"
            self._writer = pq.ParquetWriter(path, self.schema, compression="zstd")
        self._writer.write_table(group)
        self._rows += group.num_rows
        self._bytes += group.nbytes
        if self._rows >= PART_ROWS or self._bytes >= PART_BYTES:
            self._close_part()

    def _close_part(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._count += 1
            self._rows = self._bytes = 0
