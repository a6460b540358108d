"""Which documents are left to do, and how they are laid out in shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calig.warehouse.missing import Shards, missing_documents, wanted_documents
from tests.material.tiny import write_parquet


def keys(path: Path, *keys: str, first: int = 0, labels: list[int | None] | None = None) -> Path:
    labels = labels or [None] * len(keys)
    rows = zip(keys, labels, strict=True)
    table = [{"doc_id": first + n, "doc_key": key, "label": label} for n, (key, label) in enumerate(rows)]
    return write_parquet(path, table)


def rows(path: Path, *found: tuple[str, int | None, list[float] | None]) -> Path:
    """A documents file: per row the document, its class, and all logits, which failures have not."""
    columns = zip(*found, strict=True)
    schema = {
        "doc_key": pa.string(),
        "target": pa.int32(),
        "logits": pa.list_(pa.float32()),
    }
    table = pa.table({n: pa.array(v, t) for (n, t), v in zip(schema.items(), columns, strict=True)})
    predicted = [None if logits is None else int(np.argmax(logits)) for _, _, logits in found]
    failure = ["empty" if logits is None else None for _, _, logits in found]
    table = table.append_column("predicted", pa.array(predicted, pa.int32()))
    pq.write_table(table.append_column("failure", pa.array(failure, pa.string())), path)
    return path


def test_a_document_is_missing_once_where_it_stands_first(tmp_path: Path) -> None:
    corpus = [
        keys(tmp_path / "0.parquet", "d", "a", "b", "a"),
        keys(tmp_path / "1.parquet", "b", "c", first=4),
    ]
    held = [
        rows(tmp_path / "h0.parquet", ("c", 1, [0.0, 1.0])),
        rows(tmp_path / "h1.parquet", ("d", None, None), ("x", 0, [1.0, 0.0])),
    ]
    assert missing_documents(corpus, []).tolist() == [0, 1, 2, 5]
    assert missing_documents(corpus, held).tolist() == [1, 2]
    assert missing_documents(corpus[::-1], []).tolist() == [4, 5, 0, 1], "in the order of the parts"
    everything = rows(tmp_path / "h2.parquet", *((key, 0, [1.0, 0.0]) for key in "abcd"))
    assert missing_documents(corpus, [*held, everything]).tolist() == []


def test_what_is_missing_is_a_class_of_a_document(tmp_path: Path) -> None:
    """Of three classes: a has rows of its predicted class, b of its second, c of its last, d a failure; e none."""
    labels = [0, 1, 0, 2, 1, None, 1]
    corpus = [keys(tmp_path / "0.parquet", "a", "b", "c", "d", "e", "a", "a", labels=labels)]
    logits = [2.0, 1.0, 1.0]
    held = [
        rows(
            tmp_path / "h.parquet",
            ("a", 0, logits),
            ("b", 1, logits),
            ("c", 2, logits),
            ("d", None, None),
            ("d", 1, None),
        )
    ]
    assert missing_documents(corpus, held, "predicted").tolist() == [1, 2, 4]
    assert missing_documents(corpus, held, "runner-up").tolist() == [0, 2, 4], "of equals the first"
    assert missing_documents(corpus, held, 2).tolist() == [0, 1, 4]
    assert missing_documents(corpus, held, "label").tolist() == [2, 4, 6], "without a label there is none"
    assert missing_documents(corpus, [], "label").tolist() == [0, 1, 2, 3, 4, 6]
    assert wanted_documents(corpus, "label", "single_label") == 6
    assert wanted_documents(corpus, "predicted", "single_label") == 5


def test_a_failure_of_one_class_says_nothing_of_others(tmp_path: Path) -> None:
    corpus = [keys(tmp_path / "0.parquet", "a")]
    held = [rows(tmp_path / "h.parquet", ("a", 1, None))]
    assert missing_documents(corpus, held, 1).tolist() == []
    assert missing_documents(corpus, held, 0).tolist() == [0]
    assert missing_documents(corpus, held, "predicted").tolist() == [0]


def test_shards_are_laid_out_one_by_one() -> None:
    shards = Shards(np.arange(10, 17), 3)
    assert len(shards) == 3
    assert list(shards) == [[10, 11, 12], [13, 14, 15], [16]]
    assert shards[-1] == [16]
    assert shards[:2] == [[10, 11, 12], [13, 14, 15]]
    assert not Shards(np.arange(0), 3)
    with pytest.raises(IndexError):
        shards[3]
