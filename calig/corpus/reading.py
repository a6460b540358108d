"""An ingested corpus read back: rows, and the documents that they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from calig.corpus.manifest import CorpusManifest
from calig.files import Files
from calig.records import Document, Modality


def read_rows(
    corpus: CorpusManifest, files: Files, columns: Sequence[str], doc_ids: Sequence[int] | None = None
) -> pa.Table:
    """Read columns of the corpus's rows.

    Parameters
    ----------
    corpus, files
        The corpus, and the files of the warehouse it is in.
    columns
        Names of columns; those that the corpus lacks are left out.
    doc_ids
        Numbers of the rows that are wanted; None: all.

    Returns
    -------
    The rows in the order of the corpus.
    """
    parts = corpus.parts(files.root)
    if not all(part.is_file() for part in parts):  # another machine brought it in
        files.fetch(corpus.folder(files.root))
    dataset = ds.dataset(parts, format="parquet")
    chosen = None
    if doc_ids is not None:  # the range alone tells which row groups there is no need to read
        number = pc.field("doc_id")
        chosen = (
            (number >= min(doc_ids, default=0))
            & (number <= max(doc_ids, default=0))
            & number.isin(list(doc_ids))
        )
    known = set(dataset.schema.names)
    return dataset.to_table(columns=[name for name in columns if name in known], filter=chosen)


def content_columns(modality: Modality, paired: bool) -> list[str]:
    """Return the columns that `document_of` reads, but for the label."""
    if modality == "image":
        return ["doc_key", "image", "image_bytes"]
    return ["doc_key", "text", *(["text_pair"] if paired else [])]


def document_of(row: dict[str, Any], modality: Modality, labelled: bool) -> Document:
    """Return the document in a row; its label, where that is explained: of several the only one, as ingest has seen to.

    An image is its bytes where the corpus holds them, else the path of its file.
    """
    label = row["label"] if labelled else None
    label = label[0] if isinstance(label, list) else label
    if modality == "image":
        held: bytes | None = row["image_bytes"]
        return Document(row["doc_key"], label=label, image=Path(row["image"]) if held is None else held)
    return Document(row["doc_key"], row["text"], label, row.get("text_pair"))
