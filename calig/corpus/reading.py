"""An ingested corpus read back: rows, and the documents that they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from calig.corpus.manifest import CorpusManifest
from calig.files import Files
from calig.records import Document, Modality, document_key, image_key


def read_rows(
    corpus: CorpusManifest, files: Files, columns: Sequence[str], doc_ids: Sequence[int] | None = None
) -> pa.Table:
    """Read columns of the corpus's rows.

    Of documents that lie together, as those of a shard do, the row groups that hold them are read, and of the others
    the numbers alone.

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
    The rows in the order of `doc_ids`; where all are wanted, in the order of the corpus.

    Raises
    ------
    IndexError
        If the corpus has no row of such a number.
    """
    parts = corpus.parts(files.root)
    if not all(part.is_file() for part in parts):  # another machine brought it in
        files.fetch(corpus.folder(files.root))
    dataset = ds.dataset(parts, format="parquet")
    known = [name for name in columns if name in dataset.schema.names]
    if doc_ids is None:
        return dataset.to_table(columns=known)
    wanted = np.asarray(doc_ids, np.int64)
    if outside := set(wanted[(wanted < 0) | (wanted >= corpus.documents)].tolist()):
        raise IndexError(f"corpus {corpus.key} has no row {min(outside)}")
    is_wanted = np.zeros(corpus.documents, np.bool_)
    is_wanted[wanted] = True
    left = np.count_nonzero(is_wanted)
    numbers = [wanted[:0]]
    tables = [pa.schema([dataset.schema.field(name) for name in known]).empty_table()]
    for part in parts:
        with pq.ParquetFile(part) as file:
            for group in range(file.num_row_groups):
                if not left:  # there are no more
                    break
                own = file.read_row_group(group, ["doc_id"])["doc_id"].to_numpy()
                rows = np.flatnonzero(is_wanted[own])
                if len(rows):
                    numbers.append(own[rows])
                    tables.append(file.read_row_group(group, known).select(known).take(pa.array(rows)))
                    left -= len(rows)
    found = np.concatenate(numbers)
    order = np.argsort(found)
    places = order[np.searchsorted(found, wanted, sorter=order)]
    return pa.concat_tables(tables).take(pa.array(places))


def content_columns(modality: Modality, paired: bool) -> list[str]:
    """Return the columns that `document_of` reads, but for the label."""
    if modality == "image":
        return ["doc_key", "image", "image_bytes"]
    return ["doc_key", "text", *(["text_pair"] if paired else [])]


def label_of(row: dict[str, Any]) -> int | None:
    """Return the class that a row is labelled with, where that is explained: of several the only one."""
    label: int | None = row["label"][0] if isinstance(row["label"], list) else row["label"]
    return label


def document_of(row: dict[str, Any], modality: Modality, labelled: bool) -> Document:
    """Return the document in a row; its label, where that is explained: of several the only one, as ingest has seen to.

    An image is its bytes where the corpus holds them, else the path of its file.
    """
    label = label_of(row) if labelled else None
    if modality == "image":
        held: bytes | None = row["image_bytes"]
        return Document(row["doc_key"], label=label, image=Path(row["image"]) if held is None else held)
    return Document(row["doc_key"], row["text"], label, row.get("text_pair"))


def holds_labels(parts: Sequence[Path], modality: Modality) -> bool | None:
    """Whether the keys of a corpus's documents are of their labels too, as they were where labels were explained.

    The first document with a label says it. None: none of the documents can, there being no label, no text, or of
    images the paths alone.
    """
    dataset = ds.dataset(list(parts), format="parquet")
    content = "image_bytes" if modality == "image" else "text"
    columns = [name for name in ("doc_key", content, "text_pair") if name in dataset.schema.names]
    known = pc.field(content).is_valid() & pc.field("label").is_valid()
    for row in dataset.head(1, columns=columns, filter=known).to_pylist():
        own = row[content]
        plain = image_key(own) if modality == "image" else document_key(own, pair=row.get("text_pair"))
        return bool(plain != row["doc_key"])
    return None
