"""Inputs that other tools were reported to get wrong without a word, each audited from the file to SQL.

Each test names the report: owner/repository#number.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from calig import stages
from calig.config import parse_config
from calig.errors import InputError
from tests.material.heads import run_stages
from tests.material.tiers import extended
from tests.material.tiny import make_rows, select

pytestmark = extended("an audit for each report")


@pytest.fixture
def ask(tiny_model: Path, tmp_path: Path) -> Any:
    """Audit a corpus of the test's folder, and answer a SELECT over it."""

    def audited(path: str, sql: str, model: Path = tiny_model, **corpus: Any) -> list[tuple[Any, ...]]:
        data: dict[str, Any] = {
            "model": {"id": str(model)},
            "corpus": {"path": str(tmp_path / path), **corpus},
            "method": {"steps": 6},
            "runtime": {"threads": 1},
            "warehouse": str(tmp_path / "warehouse"),
        }
        run_stages(parse_config(data))
        return select(tmp_path / "warehouse", sql)

    return audited


def copied(model: Path, folder: Path, **config: Any) -> Path:
    """A copy of a model, its configuration changed."""
    shutil.copytree(model, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def test_an_integer_beside_an_empty_field_keeps_its_digits(ask: Any, tmp_path: Path) -> None:
    """pandas-dev/pandas#48170."""
    (tmp_path / "a.csv").write_text("text,one,two\na film,,1\nthe plot,1234567890123456789,\n")
    sql = "SELECT one, two FROM documents ORDER BY doc_id"
    assert ask("a.csv", sql) == [(None, "1"), ("1234567890123456789", None)]
    typed = ask("a.csv", sql, types={"one": "integer", "two": "integer"})
    assert typed == [(None, 1), (1234567890123456789, None)]


def test_ids_of_twenty_digits_keep_them(ask: Any, tmp_path: Path) -> None:
    """tidyverse/readr#976."""
    (tmp_path / "a.csv").write_text(
        "text,scholar\na film,11898508762506083287\nthe plot,3266119658877827603\n"
    )
    rows = ask("a.csv", "SELECT source_id FROM documents ORDER BY doc_id", id="scholar")
    assert rows == [("11898508762506083287",), ("3266119658877827603",)]


def test_labels_in_another_order_than_the_model_s_are_called_out(
    ask: Any, tiny_model: Path, tmp_path: Path
) -> None:
    """huggingface/optimum#197."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model).eval()
    texts = [row["text"] for row in make_rows(60)]
    with torch.no_grad():
        predicted = [int(model(**tokenizer(text, return_tensors="pt")).logits.argmax()) for text in texts]
    table = pa.table({"text": texts, "label": [1 - index for index in predicted]})
    pq.write_table(table, tmp_path / "a.parquet")
    sql = "SELECT accuracy, label_order, label_order_accuracy FROM runs"
    assert ask("a.parquet", sql, label="label") == [(0.0, ["positive", "negative"], 1.0)]


def test_classes_whose_names_are_numbers_are_not_sorted_or_guessed(
    ask: Any, tiny_model: Path, tmp_path: Path
) -> None:
    """fastai/fastai#3945."""
    names = {"id2label": {"0": "10", "1": "2"}, "label2id": {"10": 0, "2": 1}}
    model = copied(tiny_model, tmp_path / "model", **names)
    (tmp_path / "a.csv").write_text("text,label\na film,2\nthe plot,10\n")
    sql = "SELECT label, label_id FROM documents ORDER BY doc_id"
    with pytest.raises(InputError, match=r"label '2': by name class 1, called '2', by index no class"):
        ask("a.csv", sql, model, label="label")
    assert ask("a.csv", sql, model, label="label", labels="names") == [("2", 1), ("10", 0)]


def test_weights_under_the_prefix_of_a_wrapper_are_refused(
    ask: Any, tiny_model: Path, tmp_path: Path
) -> None:
    """pytorch/pytorch#3805, instanseg/instanseg#74."""
    model = copied(tiny_model, tmp_path / "model")
    weights = {f"module.{name}": tensor for name, tensor in load_file(model / "model.safetensors").items()}
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "a.csv").write_text("text\na film\n")
    with pytest.raises(InputError, match=r"weights under the prefix 'module\.'.* would be left out"):
        ask("a.csv", "SELECT 1", model)


def test_a_text_among_numbers_stays_a_text(ask: Any, tmp_path: Path) -> None:
    """ClickHouse/ClickHouse#120634."""
    rows = [{"text": f"the film {i}", "a": 1} for i in range(40)] + [{"text": "a plot", "a": "007"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = ask("a.jsonl", "SELECT a, count(*) FROM documents GROUP BY a ORDER BY a")
    assert found == [('"007"', 1), ("1", 40)]


def test_a_value_after_nulls_and_in_another_file_is_there(ask: Any, tmp_path: Path) -> None:
    """apache/arrow#40107, pola-rs/polars#13061."""
    (tmp_path / "data").mkdir()
    rows = [{"text": f"the film {i}", "user": None} for i in range(40)]
    (tmp_path / "data" / "1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "data" / "2.jsonl").write_text('{"text": "a plot", "user": "for-example"}\n')
    assert ask("data", "SELECT user, count(*) FROM documents GROUP BY user ORDER BY 2") == [
        ("for-example", 1),
        (None, 40),
    ]


@pytest.mark.parametrize(("path", "links"), [("data/*.csv", 1), ("data", 2)])
def test_hidden_files_and_broken_links_are_left_out_and_counted(
    ask: Any, tmp_path: Path, path: str, links: int
) -> None:
    """lycheeverse/lychee#1937, anomalyco/opencode#24972."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("text\none film\n")
    (tmp_path / "data" / ".b.csv").write_text("text\na hidden film\n")
    for name in ("c.csv", "notes"):
        (tmp_path / "data" / name).symlink_to("nowhere")
    assert ask(path, "SELECT text FROM documents") == [("one film",)]
    [(count, named)] = select(tmp_path / "warehouse", "SELECT left_out, left_out_files FROM runs")
    assert (count, f"{links} link to nothing (c.csv" in named) == (links + 1, True)
    assert "1 hidden (.b.csv)" in named


def test_a_file_replaced_by_one_with_an_older_time_is_read_again(ask: Any, tmp_path: Path) -> None:
    """gleam-lang/gleam#5788."""
    file = tmp_path / "a.csv"
    file.write_text("text\none film\n")
    config = parse_config({"model": {"id": "m"}, "corpus": {"path": str(file)}})
    before = stages.corpora.fingerprint(config.corpus)
    assert ask("a.csv", "SELECT text FROM documents") == [("one film",)]
    file.write_text("text\ntwo film\n")
    os.utime(file, (0, 0))
    assert stages.corpora.fingerprint(config.corpus) != before
    assert ask("a.csv", "SELECT text FROM documents") == [("two film",)]


def test_a_character_that_is_several_tokens_is_in_one_word(tmp_path: Path) -> None:
    """shap/shap#2849, huggingface/transformers#35575: byte-level tokens of one character have the same offsets."""
    import numpy as np

    from calig.words import align

    spans = np.array([[0, 1], [0, 1], [0, 1], [0, 1], [2, 3]])  # four bytes of an emoji, then a letter
    found = align(["🎬 a"], np.array([0]), np.zeros(5, np.int64), spans, np.array([False]))
    assert found.word.tolist() == [0, 0, 0, 0, 1]
    assert [(int(a), int(b)) for a, b in zip(found.start, found.end, strict=True)] == [(0, 1)] * 4 + [(2, 3)]
    assert found.share.tolist() == [1.0] * 5
