"""Which class of a document a run shows, of the rows that there are."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from calig.records import Attribution, Head
from calig.warehouse.aggregate import aggregate
from calig.warehouse.compact import compact
from calig.warehouse.explained import FILE, Asked, asked_for, explained_query
from calig.warehouse.layout import Warehouse
from calig.warehouse.shards import by_class, completed, write_shard
from calig.warehouse.views import run_files, write_explained
from tests.material.tiers import extended
from tests.material.warehouse_nights import sight
from tests.material.warehouses import as_before, make_items, make_texts, make_warehouse

CLASSES = ("a", "b", "c")
ROWS = """(SELECT * FROM (VALUES
    ('x', NULL, 0, 0, [2.0, 1.0, 1.0]), ('x', NULL, 1, 0, [2.0, 1.0, 1.0]), ('y', NULL, 2, 1, [0.0, 1.0, 0.5]),
    ('z', 'empty', NULL, NULL, NULL), ('u', 'non-finite', 1, NULL, NULL)
) AS rows(doc_key, failure, target, predicted, logits))"""


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("predicted", [0, None, None, None, None]),
        ("runner-up", [1, 2, None, None, None]),
        ("label", [1, None, None, 1, None]),
        (2, [None, 2, None, None, None]),
    ],
)
def test_a_run_shows_the_class_that_is_asked_for_or_a_failure(
    asked: Asked, expected: list[int | None]
) -> None:
    """Of document y the predicted class is not there; v is in no row, and z cannot be explained at all."""
    labels = {"x": 1, "y": 0, "z": 0, "u": 1, "v": None}
    forms: list[tuple[Head, str]] = [("single_label", "{}"), ("multi_label", "[{}]")]
    for head, form in forms:
        values = (
            f"({number}, '{key}', {'NULL' if label is None else form.format(label)})"
            for number, (key, label) in enumerate(labels.items())
        )
        documents = f"(SELECT * FROM (VALUES {', '.join(values)}) AS documents(doc_id, doc_key, label))"
        found = duckdb.sql(f"{explained_query(asked, head, documents, ROWS)} ORDER BY doc_id").fetchall()
        assert [target for _, target in found] == expected


def test_what_is_asked_for_is_a_rule_or_an_index() -> None:
    assert asked_for("predicted", "single_label", CLASSES) == "predicted"
    assert asked_for("label", "multi_label", CLASSES) == "label"
    assert asked_for("c", "single_label", CLASSES) == asked_for(2, "single_label", CLASSES) == 2
    assert asked_for("predicted", "regression", ("score",)) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    make_warehouse(root, 24, 3, seed=1)
    aggregate(Warehouse.open(root), "run-1")
    return root


@pytest.fixture
def run(made: Path, tmp_path: Path) -> tuple[Warehouse, Path]:
    """A warehouse with a run, whose tables are made; and the folder of its attributions."""
    warehouse = Warehouse.open(shutil.copytree(made, tmp_path / "w"))
    return warehouse, warehouse.attributions("attribution-24-3-1")


def of_other_classes() -> list[Attribution]:
    """The run's explanations, twice as large, said to be of the next class."""
    items = [item for item in make_items(make_texts(24, 1), 3, 1) if isinstance(item, Attribution)]
    return [
        replace(item, target=(item.target + 1) % 3, layer_ig=2 * item.layer_ig, logit=item.logit - 1)
        for item in items
    ]


@extended("an aggregate; in the first tier the rule alone is tried")
def test_what_is_settled_stays(run: tuple[Warehouse, Path]) -> None:
    """Rows of other classes change nothing, nor do those of which the rule would say something else."""
    warehouse, folder = run
    write_explained(warehouse, "run-1")
    seen = sight(warehouse, "run-1")
    failed = [item for item in make_items(make_texts(24, 1), 3, 1) if not isinstance(item, Attribution)]
    like = of_other_classes()[0]
    write_shard(
        warehouse.files, folder, [replace(like, key=item.key, target=0, predicted=0) for item in failed], 1.0
    )
    write_shard(warehouse.files, folder, of_other_classes(), 1.0)
    assert run_files(warehouse, "run-1").explained is not None
    assert sight(warehouse, "run-1") == seen
    (warehouse.run("run-1") / FILE).unlink()
    assert sight(warehouse, "run-1")["documents"] != seen["documents"]


@extended("two aggregates; in the first tier shards of before are merged")
def test_files_of_before_are_read_as_they_are(run: tuple[Warehouse, Path]) -> None:
    """Two shards hold some documents, one of them as a failure that was tried again."""
    warehouse, folder = run
    seen = sight(warehouse, "run-1")
    items = make_items(make_texts(24, 1), 3, 1)
    write_shard(warehouse.files, folder, items[:5], 1.0)
    as_before(folder)
    assert not any(
        by_class(path)
        for shard in completed(warehouse.files, folder)
        for path in shard.paths(folder, "documents")
    )
    aggregate(warehouse, "run-1")
    assert sight(warehouse, "run-1") == seen
    [merged] = compact(warehouse.files, folder, min_files=2)
    assert merged.documents == len(items)
    assert sight(warehouse, "run-1") == seen
