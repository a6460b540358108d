"""Warehouses of earlier versions stay readable: their runs, tables, comparison, evaluation, tag and the lost run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calig.config import load_config
from calig.report.build import build
from calig.warehouse.aggregate import rebuild
from calig.warehouse.evaluations import list_evaluations
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import query
from calig.warehouse.runs import list_runs, read_run, resolve_run
from tests.material import formats
from tests.material.heads import run_stages
from tests.material.tiers import extended
from tests.material.tiny import select

COUNTED = ("documents", "words", "tokens", "word_stats", "layer_stats", "comparisons", "failures")


@pytest.fixture(params=formats.VERSIONS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What an earlier version wrote, unpacked."""
    return formats.unpack(request.param, tmp_path)


def counts(warehouse: Path) -> dict[str, Any]:
    return {table: select(warehouse, f"SELECT count(*) FROM {table}", "all")[0][0] for table in COUNTED}


def test_an_old_warehouse_is_read_as_it_is(old: Path) -> None:
    """Every run, its tag, its evaluation, its comparison; the words and labels of its documents; its report."""
    warehouse = Warehouse.open(old / "warehouse", create=False)
    runs = list_runs(warehouse)
    assert [run.name for run in runs] == ["texts", "texts", "images", "interrupted"]
    assert [run.status for run in runs] == ["complete", "complete", "complete", "running"]
    assert resolve_run(warehouse, "accepted") == runs[0].run_id
    assert len(list_evaluations(warehouse)) == 1
    first = runs[0].run_id
    ((documents, labelled, failed),) = select(
        warehouse.root, "SELECT count(*), count(label), count(failure) FROM documents", first
    )
    assert (documents, labelled, failed) == (36, 36, 1)
    assert select(warehouse.root, "SELECT count(*) FROM comparisons", runs[1].run_id)[0][0] > 0
    assert select(warehouse.root, "SELECT count(*) FROM word_stats", first)[0][0] > 0
    assert query(warehouse, "SELECT count(*) FROM evaluation_stats").rows[0][0] > 0
    assert build(warehouse, first).is_file()


@extended("all tables of four runs, twice")
def test_the_tables_of_an_old_warehouse_are_built_again_from_its_files(old: Path) -> None:
    """All but the words are as they were: those of 0.1.0 were the tokenizer's, which cut don't into three."""
    contraction = "SELECT count(*) FROM words WHERE word = 'don''t'"
    before, cut = counts(old / "warehouse"), select(old / "warehouse", contraction, "all")[0][0]
    assert min(before.values()) > 0
    (old / "warehouse" / "calig.duckdb").unlink()
    rebuild(Warehouse.open(old / "warehouse"))
    after = counts(old / "warehouse")
    assert {table for table in before if after[table] != before[table]} == {"words", "word_stats"}
    assert (cut, select(old / "warehouse", contraction, "all")[0][0]) == (0, 72), (
        "one in each, two in the long one"
    )


def test_an_audit_goes_on_in_an_old_warehouse(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the killed run had computed is not computed again."""
    monkeypatch.chdir(old)
    config = load_config(Path("audits/interrupted.yaml"))
    done = read_run(Warehouse.open("warehouse"), run_stages(config).run_id)
    assert done.reused > 0
    assert done.attributed + done.reused == 120
    assert select(Path("warehouse"), "SELECT count(*) FROM documents")[0][0] == 120
