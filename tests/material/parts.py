"""Rows of an ingested corpus as tests look at them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from calig.corpus import CorpusManifest


def source_rows(manifest: CorpusManifest, root: Path) -> pa.Table:
    """All columns of a corpus in the warehouse `root`, in the order of the source."""
    return pa.concat_tables(map(pq.read_table, manifest.parts(root))).sort_by("doc_id")
