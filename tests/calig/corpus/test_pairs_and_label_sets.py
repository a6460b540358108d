"""Corpora of text pairs, and labels that are sets of classes or numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calig.config import CorpusConfig
from calig.corpus import ingest
from calig.errors import InputError
from calig.files import Files
from calig.records import Head, document_key
from tests.material.parts import source_rows

CLASSES = ["plot", "cast", "music"]


def take(path: Path, root: Path, head: Head = "single_label", **fields: Any) -> dict[str, list[Any]]:
    manifest = ingest(CorpusConfig(path=str(path), **fields), CLASSES, Files(root), head=head)
    found: dict[str, list[Any]] = source_rows(manifest, root).to_pydict()
    return found


def refused(path: Path, root: Path, head: Head = "single_label", **fields: Any) -> str:
    with pytest.raises(InputError) as caught:
        take(path, root, head, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_pairs_have_a_second_text_and_a_key_of_both(tmp_path: Path) -> None:
    source = parquet(tmp_path / "a.parquet", a=["x", "y", None], b=["1", None, "3"], text_pair=[1, 2, 3])
    rows = take(source, tmp_path / "w", text="a", text_pair="b")
    assert rows["text"] == ["x", "y", ""]
    assert rows["text_pair"] == ["1", "", "3"]
    assert rows["doc_key"] == [
        document_key("x", pair="1"),
        document_key("y", pair=""),
        document_key("", pair="3"),
    ]
    assert rows["corpus_text_pair"] == [1, 2, 3]


def test_a_csv_s_pairs_stay_as_written(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\nx,001\ny,\n")
    rows = take(path, tmp_path / "w", text="a", text_pair="b")
    assert rows["text_pair"] == ["001", ""]
    assert "b" not in rows


def test_the_key_of_single_texts_is_what_it_was(tmp_path: Path) -> None:
    source = parquet(tmp_path / "a.parquet", text=["x", "y"], label=[0, 1])
    manifest = ingest(CorpusConfig(path=str(source), label="label"), CLASSES, Files(tmp_path / "w"))
    assert manifest.key == "181d66cc5e5044be3fa889dc4263158a"
    assert "text_pair" not in pq.read_schema(manifest.parts(tmp_path / "w")[0]).names


def test_a_second_text_that_is_none(tmp_path: Path) -> None:
    source = parquet(tmp_path / "a.parquet", text=["x"], stars=[3])
    assert "has no column 'pair' for corpus.text_pair" in refused(source, tmp_path, text_pair="pair")
    assert "column 'stars' is int64, not text: choose another corpus.text_pair" in refused(
        source, tmp_path, text_pair="stars"
    )


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([[2, 0], [], None, [1]], [[0, 2], [], None, [1]]),
        ([["music", "PLOT"], ["label_1"]], [[0, 2], [1]]),
        (["music", "", None, "2"], [[2], None, None, [2]]),
        ([2, 0, None], [[2], [0], None]),
    ],
)
def test_sets_of_classes(labels: list[Any], found: list[Any], tmp_path: Path) -> None:
    source = parquet(tmp_path / "a.parquet", text=["x"] * len(labels), topics=labels)
    assert take(source, tmp_path / "w", "multi_label", label="topics")["label"] == found


def test_sets_of_classes_in_csv_are_json(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\nx,"[""cast"", 0]"\ny,music\nz,[]\n')
    assert take(path, tmp_path / "w", "multi_label", label="label")["label"] == [[0, 1], [2], []]
    path.write_text("text,label\nx,\"['cast', 'music']\"\n")  # as pandas writes lists
    assert take(path, tmp_path / "w", "multi_label", label="label")["label"] == [[1, 2]]


@pytest.mark.parametrize("wrong", ["[1", "[[1]]", "sound", "[1, 7]"])
def test_a_set_with_what_is_no_class_is_no_label(wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'text,label\nx,"{wrong}"\ny,[1]\n')
    corpus = CorpusConfig(path=str(path), label="label")
    manifest = ingest(corpus, CLASSES, Files(tmp_path / "w"), head="multi_label")
    assert source_rows(manifest, tmp_path / "w")["label"].to_pylist() == [None, [1]]
    [note] = manifest.notes
    assert note.startswith(
        "1 document has in column 'label' what is not a class of the model (plot, cast, music)"
    )


def test_lists_of_a_dataset_s_named_classes(tmp_path: Path) -> None:
    """The dataset has the model's names in another order: the names decide."""
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.List(datasets.ClassLabel(names=CLASSES[::-1]))}
    )
    folder = tmp_path / "data"
    folder.mkdir()
    made = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [[0], [1, 2]]}, features=features)
    made.to_parquet(str(folder / "train.parquet"))
    corpus = CorpusConfig(dataset=str(folder), label="label")
    manifest = ingest(corpus, CLASSES, Files(tmp_path / "w"), head="multi_label")
    rows = source_rows(manifest, tmp_path / "w")
    assert rows["label"].to_pylist() == [[2], [0, 1]]


def test_lists_are_for_multi_label_models(tmp_path: Path) -> None:
    source = parquet(tmp_path / "a.parquet", text=["x"], label=[[1]], deep=[[[1]]])
    message = refused(source, tmp_path, label="label")
    assert message.endswith(
        "it needs class indices or class names; for lists of them, set model.head: multi_label"
    )
    assert "it needs numbers" in refused(source, tmp_path, "regression", label="label")
    assert "or lists of them" in refused(source, tmp_path, "multi_label", label="deep")


def test_numbers_are_the_labels_of_a_regression(tmp_path: Path) -> None:
    source = parquet(tmp_path / "a.parquet", text=["x"] * 4, stars=[1.5, None, float("nan"), -2.0])
    assert take(source, tmp_path / "w", "regression", label="stars")["label"] == [1.5, None, None, -2.0]
    path = tmp_path / "a.csv"
    path.write_text("text,stars\nx,4\ny,3.5\nz,\n")
    assert take(path, tmp_path / "v", "regression", label="stars")["label"] == [4.0, 3.5, None]
    path.write_text("text,stars\nx,4\ny,good\nz,inf\n")
    manifest = ingest(
        CorpusConfig(path=str(path), label="stars"), CLASSES, Files(tmp_path / "u"), head="regression"
    )
    assert source_rows(manifest, tmp_path / "u")["label"].to_pylist() == [4.0, None, None]
    assert manifest.notes == [
        "2 documents have in column 'stars' what is not a number, and no label therefore: 'good' (1), 'inf' (1); first "
        f"in {path}, row 2"
    ]
