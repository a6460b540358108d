"""The column of human rationales: kept as it is through ingest, read back, and refused where it cannot be any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calig.config import CorpusConfig
from calig.corpus import CorpusManifest, ingest, load_corpus
from calig.corpus.reading import read_rows
from calig.errors import InputError
from calig.files import Files

CLASSES = ("negative", "positive")
TEXTS = ["good film", "bad film", "a film"]
SPANS = [[{"start": 0, "end": 4}], None, []]


def brought_in(path: Path, root: Path, rationale: str = "why", **corpus: Any) -> CorpusManifest:
    return ingest(CorpusConfig(path=str(path), rationale=rationale, **corpus), CLASSES, Files(root))


def parquet(path: Path, name: str, values: Any) -> Path:
    pq.write_table(pa.table({"text": TEXTS, name: values}), path)
    return path


def read_back(manifest: CorpusManifest, root: Path, doc_ids: list[int] | None = None) -> list[Any]:
    assert manifest.rationale is not None
    wanted = range(manifest.documents) if doc_ids is None else doc_ids
    return read_rows(manifest, Files(root), [manifest.rationale], wanted)[manifest.rationale].to_pylist()


@pytest.mark.parametrize(
    "values",
    [
        SPANS,
        [[[0, 4]], None, []],
        [["good"], ["bad"], None],
        [[1, 0], [1, 0], [0, 0]],
        pa.array(SPANS, pa.large_list(pa.struct([("start", pa.int32()), ("end", pa.int32())]))),
        ["[[0, 4]]", None, ""],
    ],
)
def test_rationales_are_kept_as_they_are(values: Any, tmp_path: Path) -> None:
    manifest = brought_in(parquet(tmp_path / "a.parquet", "why", values), tmp_path / "w")
    expected = values.to_pylist() if isinstance(values, pa.Array) else values
    assert manifest.rationale == "why"
    assert read_back(manifest, tmp_path / "w") == expected
    assert read_back(manifest, tmp_path / "w", [2, 0]) == [expected[2], expected[0]]


def test_json_lines_and_csv_have_them_too(tmp_path: Path) -> None:
    rows = [{"text": text, "why": spans} for text, spans in zip(TEXTS, SPANS, strict=True)]
    jsonl = tmp_path / "a.jsonl"
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_back(brought_in(jsonl, tmp_path / "w"), tmp_path / "w") == SPANS
    table = tmp_path / "a.csv"
    table.write_text('text,why\ngood film,"[[0, 4]]"\nbad film,\n')
    assert read_back(brought_in(table, tmp_path / "w"), tmp_path / "w")[0] == "[[0, 4]]"


def test_a_name_of_the_warehouses_own_is_found_under_its_new_one(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", "tokens", SPANS)
    manifest = brought_in(path, tmp_path / "w", rationale="tokens")
    assert manifest.rationale == "corpus_tokens"
    assert read_back(manifest, tmp_path / "w") == SPANS


def test_the_same_corpus_serves_with_and_without_rationales(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", "why", SPANS)
    plain = ingest(CorpusConfig(path=str(path)), CLASSES, Files(tmp_path / "w"))
    marked = brought_in(path, tmp_path / "w")
    assert (plain.rationale, marked.rationale) == (None, "why")
    assert plain.key == marked.key
    assert load_corpus(Files(tmp_path / "w"), plain.key).columns.keys() == {"why"}


@pytest.mark.parametrize(
    ("name", "values", "asked", "complaint"),
    [
        ("why", SPANS, "reason", "has no column 'reason' for corpus.rationale; it has text, why"),
        ("why", [1, 2, 3], "why", "column 'why' is int64: corpus.rationale needs lists of character spans"),
        ("why", [b"x", None, None], "why", "column 'why' is binary: corpus.rationale needs lists"),
        ("why", [None, None, None], "why", "column 'why' is null: corpus.rationale needs lists"),
        ("why", SPANS, "text", "corpus.rationale: 'text' is the text, label or id already"),
    ],
)
def test_what_can_be_no_rationale_is_one_line(
    name: str, values: Any, asked: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        brought_in(parquet(tmp_path / "a.parquet", name, values), tmp_path / "w", rationale=asked)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_images_have_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^corpus\.rationale: the model reads images"):
        ingest(CorpusConfig(path="a.parquet", rationale="why"), CLASSES, Files(tmp_path), modality="image")
