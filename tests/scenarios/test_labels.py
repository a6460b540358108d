"""Labels and values through whole audits: what does not fit is in `runs` and on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calig import stages
from calig.config import parse_config
from calig.errors import InputError
from calig.report.build import build
from calig.warehouse.layout import Warehouse
from tests.material.heads import run_stages
from tests.material.tiny import Row, audit_dict, random_bert, select, write_csv, write_parquet


def test_labels_in_another_order_are_called_out(
    tiny_model: Path, tiny_rows: list[Row], tmp_path: Path
) -> None:
    warehouse = tmp_path / "w"
    first = run_stages(
        parse_config(audit_dict(tiny_model, write_parquet(tmp_path / "a.parquet", tiny_rows), warehouse))
    )
    predicted = dict(select(warehouse, "SELECT source_id, predicted_id FROM documents"))
    assert select(warehouse, "SELECT label_order, label_order_accuracy FROM runs") == [(None, None)]
    assert "Label order" not in build(Warehouse.open(warehouse), first.run_id).read_text()
    rows = [{**row, "label": 1 - predicted[row["id"]], "logit": row["topic"]} for row in tiny_rows]
    other = run_stages(parse_config(audit_dict(tiny_model, write_csv(tmp_path / "b.csv", rows), warehouse)))
    columns = "accuracy, label_order, label_order_accuracy, notes, attributed"
    sql = f"SELECT {columns} FROM runs WHERE run_id = '{other.run_id}'"
    note = "columns whose names are taken, or not possible in SQL: 'logit' is called corpus_logit"
    assert select(warehouse, sql) == [(0.0, ["positive", "negative"], 1.0, [note], 0)]
    page = (
        build(Warehouse.open(warehouse), other.run_id).read_text().replace("<bdi>", "").replace("</bdi>", "")
    )
    assert (
        "read so, accuracy would be 1.00, not 0 (the label negative fits positive, positive fits negative)"
        in page
    )
    assert page.count(note.replace("'", "&#39;")) == 2
    # read as the note says, they fit
    mapped: dict[str, Any] = {"labels": {"0": "positive", "1": "negative"}}
    last = run_stages(parse_config(audit_dict(tiny_model, tmp_path / "b.csv", warehouse, corpus=mapped)))
    sql = f"SELECT accuracy, label_order, attributed FROM runs WHERE run_id = '{last.run_id}'"
    assert select(warehouse, sql) == [(1.0, None, 0)]


def test_classes_that_are_numbers_stop_an_audit_before_anything_is_computed(
    tiny_model: Path, tiny_rows: list[Row], tmp_path: Path
) -> None:
    """The same labels as CSV and Parquet: refused alike and, with a reading, right alike."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    random_bert(len(tokenizer), ("1", "2", "3"), 0, num_hidden_layers=2).save_pretrained(tmp_path / "stars")
    tokenizer.save_pretrained(tmp_path / "stars")
    rows = [{**row, "label": 1 + number % 3} for number, row in enumerate(tiny_rows)]
    found = []
    warehouse = Warehouse.open(tmp_path / "w")
    for path in (write_csv(tmp_path / "a.csv", rows), write_parquet(tmp_path / "a.parquet", rows)):
        data = audit_dict(tmp_path / "stars", path, tmp_path / "w")
        config = parse_config(data)
        with pytest.raises(
            InputError,
            match=r"^corpus\.labels: the model's classes are called by numbers \(0: '1', 1: '2', 2: '3'\), so",
        ):
            stages.bring_in(warehouse, config, stages.describe_model(config))
        assert not list((tmp_path / "w").rglob("*.parquet"))
        config = parse_config({**data, "corpus": {**data["corpus"], "labels": "names"}})
        corpus = stages.bring_in(warehouse, config, stages.describe_model(config))
        found.append(corpus.key)
        for part in corpus.parts(tmp_path / "w"):
            part.unlink()
    assert found[0] == found[1]
