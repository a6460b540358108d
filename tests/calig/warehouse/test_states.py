"""A run's tables from merged partial states: the same to the last bit, however its documents are divided."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calig.files import Files, write_json
from calig.records import Attribution, document_key
from calig.warehouse import portions
from calig.warehouse.aggregate import aggregate
from calig.warehouse.catalog import TABLES
from calig.warehouse.layout import Warehouse
from calig.warehouse.moments import MOST, Shape, correlation
from calig.warehouse.shards import write_shard
from calig.warehouse.states import States
from tests.material.fuzz import examples
from tests.material.tiers import extended, few
from tests.material.warehouses import make_items, make_texts, make_warehouse

Rows = dict[str, list[tuple[Any, ...]]]


def tables(warehouse: Warehouse, run_id: str) -> Rows:
    """All rows of all tables, floating-point numbers as the bits they are."""
    found = {}
    with duckdb.connect(warehouse.database, read_only=True) as connection:
        for table in TABLES:
            rows = connection.execute(f"SELECT * FROM {table} WHERE run_id = ? ORDER BY ALL", [run_id])
            found[table] = [
                tuple(cell.hex() if isinstance(cell, float) else cell for cell in row)
                for row in rows.fetchall()
            ]
    return found


def shuffle(monkeypatch: pytest.MonkeyPatch, seed: int, size: int = 1) -> list[int]:
    """Let portions be of so many shards each, at random; return how many there were, aggregate by aggregate."""
    counted: list[int] = []

    def groups(sizes: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
        shards = [shard for shard, _ in sizes]
        random.Random(seed).shuffle(shards)
        found = [shards[start : start + size] for start in range(0, len(shards), size)]
        counted.append(len(found))
        return iter(found)

    monkeypatch.setattr(portions, "_groups", groups)
    return counted


def watch(warehouse: Warehouse, run_id: str) -> None:
    path = warehouse.run(run_id) / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["config"]["watch"] = {"praise": ["great", "superb"], "blame": ["awful", "a story", "absent"]}
    write_json(path, manifest)


@extended("a thousand shards")
def test_a_thousand_shards_by_merged_states_equal_the_whole_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = make_warehouse(tmp_path, documents=1001, shards=1000)  # the last text is the first again
    warehouse = Warehouse.open(tmp_path)
    watch(warehouse, run_id)
    aggregate(warehouse, run_id)
    whole = tables(warehouse, run_id)
    counted = shuffle(monkeypatch, 1, size=25)
    aggregate(warehouse, run_id)
    assert counted == [40]
    assert tables(warehouse, run_id) == whole
    assert all(
        len(whole[table]) > 5 for table in ("word_stats", "token_stats", "layer_stats", "watched", "failures")
    )


@pytest.mark.parametrize("scale", few([1e-30, 1e6, 1e30], [1e6], "more scales"))
@pytest.mark.parametrize("head", ["single_label", "regression"])
def test_whatever_size_the_outputs_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: float, head: str
) -> None:
    """One document in three is a million times smaller still, and one alone a thousand times larger."""
    texts = make_texts(40, 0)
    run_id = make_warehouse(tmp_path, documents=40, shards=1, fusion="agreement")
    warehouse = Warehouse.open(tmp_path)
    folder = warehouse.attributions("attribution-40-4-0")
    for path in folder.iterdir():
        path.unlink()
    items = make_items(texts, 4, 0)
    for number, item in enumerate(items):
        if isinstance(item, Attribution):
            own = np.float32(scale * (1000 if number == 4 else 1e-6 if number % 3 == 0 else 1))
            grown = {"layer_ig": item.layer_ig * own, "context": item.context * own}
            norm = np.abs(item.context * own).sum(axis=1).astype(np.float32)
            target = 0 if head == "regression" else item.target  # of one output
            changed = {"context_norm": norm, "logit": float(item.logit * own), "target": target}
            items[number] = replace(item, **grown, **changed)
    for number in range(8):
        write_shard(Files(folder), folder, items[number::8], seconds=1.0)
    path = warehouse.run(run_id) / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["model"]["head"] = head
    write_json(path, manifest)
    aggregate(warehouse, run_id)
    whole = tables(warehouse, run_id)
    shuffle(monkeypatch, 2)
    aggregate(warehouse, run_id)
    assert tables(warehouse, run_id) == whole
    with duckdb.connect(warehouse.database, read_only=True) as connection:
        found = connection.execute("SELECT token, occurrences, effect, score FROM token_stats").fetchall()
        [(error, correlation)] = connection.execute(
            "SELECT mean_absolute_error, correlation FROM runs"
        ).fetchall()
    totals: dict[str, float] = {}
    for token, occurrences, effect, score in found:
        assert np.isfinite([effect, score]).all()
        totals[token] = totals.get(token, 0) + occurrences * effect
    for token, total in totals.items():
        wanted = [
            float(item.layer_ig[:-1].astype(np.float64).mean(axis=0)[place])
            for text in texts
            for item in items
            if isinstance(item, Attribution) and item.key == document_key(text) and item.converged.all()
            for place, own in enumerate(item.tokens)
            if own == token
        ]
        assert total == pytest.approx(sum(wanted), rel=1e-9, abs=1e-12 * max(map(abs, wanted)))
    if head == "regression":
        assert error == pytest.approx(expected_error(warehouse, run_id, items), rel=1e-6)
        assert correlation is None or -1 <= correlation <= 1


def expected_error(warehouse: Warehouse, run_id: str, items: list[Any]) -> float:
    logits = {item.key: np.float32(item.logit) for item in items if isinstance(item, Attribution)}
    rows = pq.read_table(warehouse.run(run_id) / "documents.parquet").to_pylist()
    missed = [
        abs(float(logits[row["doc_key"]]) - row["label"])
        for row in rows
        if row["label"] is not None and row["doc_key"] in logits
    ]
    return float(np.mean(missed))


effect = st.integers(-MOST, MOST)
row = st.tuples(st.sampled_from(["good", "bad"]), st.sampled_from(["a", "b"]), st.integers(0, 5), effect)


@examples(40)
@given(st.lists(row, max_size=12), st.lists(st.integers(0, 12), max_size=4), st.randoms())
def test_states_merge_in_any_order_and_at_any_time(
    rows: list[tuple[str, str, int, int]], merges: list[int], rng: random.Random
) -> None:
    def merged(rows: list[tuple[str, str, int, int]], when: list[int]) -> list[tuple[Any, ...]]:
        with duckdb.connect() as connection:
            states = States(connection)
            for number, (label, item, documents, total) in enumerate(rows):
                connection.execute(
                    "INSERT INTO word_state BY NAME SELECT ? AS class, ? AS item, ? AS documents, "
                    "? :: HUGEINT AS effect, effect AS lowest_effect, effect AS greatest_effect, "
                    "{'effect': effect, 'doc_id': documents} AS lowest_example, "
                    "{'effect': effect, 'minus_doc_id': -documents} AS greatest_example",
                    [label, item, documents, str(total)],
                )
                if number in when:
                    states.settle()
            states.merge()
            return connection.execute(
                "SELECT class, item, documents, effect, lowest_effect, greatest_effect, lowest_example.doc_id, "
                "-greatest_example.minus_doc_id FROM word_state ORDER BY class, item"
            ).fetchall()

    once = merged(rows, [])
    assert merged(rng.sample(rows, len(rows)), merges) == once
    for label, item, documents, total, lowest, greatest, least, most in once:
        own = [row for row in rows if row[:2] == (label, item)]
        assert documents == sum(row[2] for row in own)
        assert total == sum(row[3] for row in own)
        assert (lowest, least) == min((row[3], row[2]) for row in own)
        assert (greatest, -most) == max((row[3], -row[2]) for row in own)


@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=60),
    st.sampled_from([1.0, 1e-3, 1e-5]),
)
def test_moments_of_whole_numbers_are_those_of_the_numbers(values: list[float], scale: float) -> None:
    numbers = np.array([value * scale for value in values])
    sums = [sum(round(number**power * MOST) for number in numbers.tolist()) for power in (1, 2, 3)]
    shape = Shape.of(len(numbers), *sums)
    assert shape.mean == pytest.approx(numbers.mean(), rel=1e-9, abs=1e-20)
    assert shape.deviation == pytest.approx(numbers.std(), rel=1e-6, abs=4e-8 * scale)
    if numbers.std() > 1e-2 * scale:
        skewness = ((numbers - numbers.mean()) ** 3).mean() / numbers.std() ** 3
        assert shape.skewness == pytest.approx(skewness, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("documents", [2, 3])
def test_a_correlation_is_of_three_documents_or_more(documents: int) -> None:
    logits, labels = ([0.1, 0.3, 0.2][:documents], [0.2, 0.8, 0.5][:documents])
    units = [round(x * MOST) for x in (sum(logits), sum(labels))]
    squares = [round(sum(x * x for x in own) * MOST) for own in (logits, labels)]
    product = round(sum(x * y for x, y in zip(logits, labels, strict=True)) * MOST)
    names = "pairs, logit, label, logit_squared, label_squared, product"
    ends = "lowest_logit, greatest_logit, lowest_label, greatest_label"
    with duckdb.connect() as connection:
        connection.execute(
            f"CREATE TABLE run_state AS SELECT * FROM (VALUES ({documents}, {', '.join(map(str, [*units, *squares]))}, "
            f"{product}, 1, 2, 1, 2)) AS rows({names}, {ends})"
        )
        found = correlation(connection)
    assert found == (None if documents < 3 else pytest.approx(np.corrcoef(logits, labels)[0, 1]))
