"""From a warehouse on disk to the page."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from calig.errors import InputError
from calig.report import build
from calig.report.data import collect
from calig.report.prose import queries
from calig.warehouse.aggregate import aggregate
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_run, query
from tests.material.warehouses import make_warehouse


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    for run in (
        make_warehouse(root, documents=90, depths=5),
        make_warehouse(root, documents=60, depths=7, seed=1),
    ):
        aggregate(Warehouse.open(root), run)
    return root


@pytest.mark.parametrize(("run", "depths"), [("run-0", 5), ("run-1", 7)])
def test_a_run_of_the_warehouse_becomes_a_page(warehouse: Path, run: str, depths: int) -> None:
    path = build(Warehouse.open(warehouse), run)
    assert path == warehouse / "runs" / run / "report" / "index.html"
    page = path.read_text(encoding="utf-8")
    assert run in page
    assert f'max="{depths}"' in page
    assert build(Warehouse.open(warehouse), run).read_text(encoding="utf-8") == page
    assert list(path.parent.iterdir()) == [path]


def test_the_planted_words_are_found(warehouse: Path) -> None:
    with open_run(Warehouse.open(warehouse), "run-0") as connection:
        data = collect(connection, "run-0")
    strongest = {word.word for word in data.words if word.clear and abs(word.effect) > 0.5}
    assert strongest == {"awful", "boring", "great", "superb"}
    for document in data.documents:
        assert document.heat.layer_ig.shape[0] == 5


def test_the_commands_on_the_page_run(warehouse: Path) -> None:
    with open_run(Warehouse.open(warehouse), "run-0") as connection:
        run = collect(connection, "run-0").run
    for _title, command in queries(run, str(warehouse)):
        _calig, _query, sql, *options = shlex.split(command)[-7:]
        assert options == ["--run", "run-0", "--warehouse", str(warehouse)]
        assert query(Warehouse.open(warehouse), sql, run="run-0").rows


def test_a_run_that_is_not_there_is_an_input_error(warehouse: Path) -> None:
    with pytest.raises(InputError, match="nope"):
        build(Warehouse.open(warehouse), "nope")
