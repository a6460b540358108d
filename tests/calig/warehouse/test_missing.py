"""Which documents are left to do, and how they are laid out in shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calig.warehouse.missing import Shards, missing_documents
from tests.material.tiny import write_parquet


def keys(path: Path, *keys: str, first: int = 0) -> Path:
    return write_parquet(path, [{"doc_id": first + n, "doc_key": key} for n, key in enumerate(keys)])


def test_a_document_is_missing_once_where_it_stands_first(tmp_path: Path) -> None:
    corpus = [
        keys(tmp_path / "0.parquet", "d", "a", "b", "a"),
        keys(tmp_path / "1.parquet", "b", "c", first=4),
    ]
    held = [keys(tmp_path / "h0.parquet", "c"), keys(tmp_path / "h1.parquet", "d", "x")]
    assert missing_documents(corpus, []).tolist() == [0, 1, 2, 5]
    assert missing_documents(corpus, held).tolist() == [1, 2]
    assert missing_documents(corpus[:1], [*held, corpus[0]]).tolist() == []


def test_shards_are_laid_out_one_by_one() -> None:
    shards = Shards(np.arange(10, 17), 3)
    assert len(shards) == 3
    assert list(shards) == [[10, 11, 12], [13, 14, 15], [16]]
    assert shards[-1] == [16]
    assert shards[:2] == [[10, 11, 12], [13, 14, 15]]
    assert not Shards(np.arange(0), 3)
    with pytest.raises(IndexError):
        shards[3]
