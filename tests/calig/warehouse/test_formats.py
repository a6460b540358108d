"""Warehouses of earlier versions stay usable: they are read, resumed, compared and pruned, with all that is in them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from calig.comparing import stages
from calig.comparing.differences import made_by
from calig.config import load_config
from calig.formats import ENGINE_VERSION, FORMAT
from calig.report import changes
from calig.report.build import build
from calig.warehouse.aggregate import rebuild
from calig.warehouse.evaluations import list_evaluations
from calig.warehouse.layout import Warehouse
from calig.warehouse.pairing import labels_in_keys
from calig.warehouse.prune import prune
from calig.warehouse.query import query
from calig.warehouse.runs import list_runs, read_run, resolve_run
from calig.warehouse.tags import delete_tag
from calig.warehouse.views import run_files
from tests.material import formats
from tests.material.heads import run_stages
from tests.material.tiers import extended, few
from tests.material.tiny import select

COUNTED = ("documents", "words", "tokens", "word_stats", "layer_stats", "comparisons", "failures")
ENGINE_OF_0_1_0 = 4
RUNS = {
    "0.1.0": ["texts", "texts", "images", "interrupted"],
    "0.1.0-keys-with-rule": ["texts", "texts", "labelled", "images", "interrupted"],
}
"""Audits of the runs that a version's warehouse holds, oldest first; the last is running."""

BOTH = pytest.mark.parametrize(
    "old",
    few(formats.VERSIONS, ("0.1.0-keys-with-rule",), "an older format; the first tier has one"),
    indirect=True,
)


@pytest.fixture
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What an earlier version wrote, unpacked."""
    return formats.unpack(request.param, tmp_path)


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """What was written just before formats had numbers, unpacked."""
    return formats.unpack("0.1.0-keys-with-rule", tmp_path)


def counts(warehouse: Path) -> dict[str, Any]:
    return {table: select(warehouse, f"SELECT count(*) FROM {table}", "all")[0][0] for table in COUNTED}


@BOTH
def test_an_old_warehouse_is_read_as_it_is(old: Path) -> None:
    """Every run, its tag, its evaluation, its comparison; the words and labels of its documents; its report."""
    warehouse = Warehouse.open(old / "warehouse", create=False)
    runs = list_runs(warehouse)
    assert [run.name for run in runs] == RUNS[old.name]
    assert [run.status for run in runs] == [*(["complete"] * (len(runs) - 1)), "running"]
    assert {(run.format, run.engine_version, run.calig_version) for run in runs} == {(1, None, None)}
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
@pytest.mark.parametrize("old", ["0.1.0"], indirect=True)
def test_the_tables_of_an_old_warehouse_are_built_again_from_its_files(old: Path) -> None:
    """All but the words are as they were: those of 0.1.0 were the tokenizer's, which cut don't into three."""
    contraction = "SELECT count(*) FROM words WHERE word = 'don''t'"
    earlier, cut = counts(old / "warehouse"), select(old / "warehouse", contraction, "all")[0][0]
    assert min(earlier.values()) > 0
    (old / "warehouse" / "calig.duckdb").unlink()
    rebuild(Warehouse.open(old / "warehouse"))
    after = counts(old / "warehouse")
    assert {table for table in earlier if after[table] != earlier[table]} == {"words", "word_stats"}
    assert (cut, select(old / "warehouse", contraction, "all")[0][0]) == (0, 72), (
        "one in each, two in the long one"
    )


@BOTH
def test_an_audit_goes_on_in_an_old_warehouse(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the killed run had computed is not computed again, unless the engine is another one."""
    monkeypatch.chdir(old)
    config = load_config(Path("audits/interrupted.yaml"))
    done = read_run(Warehouse.open("warehouse"), run_stages(config).run_id)
    assert (done.reused > 0) == (ENGINE_VERSION == ENGINE_OF_0_1_0)
    assert done.attributed + done.reused == 120
    assert (done.format, done.engine_version) == (FORMAT, ENGINE_VERSION)
    assert select(Path("warehouse"), "SELECT count(*) FROM documents")[0][0] == 120


@extended("an audit, two comparisons and a page")
def test_an_old_run_is_compared_with_one_of_today(before: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what documents hold, also where the old keys hold labels; the page says first what changed, if anything."""
    monkeypatch.chdir(before)
    warehouse = Warehouse.open("warehouse")
    old = resolve_run(warehouse, "accepted")
    labelled = next(run.run_id for run in list_runs(warehouse) if run.name == "labelled")
    config = load_config(Path("audits/texts.yaml"))
    config = config.model_copy(update={"date": date(2026, 11, 1), "compare_to": ()})
    new = run_stages(config).run_id
    row = stages.compare_runs(warehouse, stages.asked(warehouse, old, new, None))
    assert (row["tests_paired"], row["paired"], row["changed"]) == (True, 35, False)
    assert row["same_engine"] == (ENGINE_VERSION == ENGINE_OF_0_1_0)
    assert made_by(warehouse, read_run(warehouse, old))[0] == ENGINE_OF_0_1_0, "which its key says"
    page = changes.build(warehouse, new, old).read_text()
    for difference in row["differences"]:
        assert page.index(f"{difference[0].upper()}{difference[1:]}.") < page.index('eyebrow">')
    if not row["same_engine"]:
        assert row["differences"][0].startswith("the engine changed between these runs (version 4, then ")
    assert [labels_in_keys(run_files(warehouse, own)) for own in (labelled, new)] == [True, False]
    row = stages.compare_runs(warehouse, stages.asked(warehouse, labelled, new, None))
    assert (row["tests_paired"], row["paired"], row["left_out"]) == (True, 35, 0)
    assert "the setting method.target changed from label to predicted" in row["differences"]


@BOTH
def test_old_runs_are_pruned(old: Path) -> None:
    """The newest of each audit stays readable; what only the others needed goes."""
    warehouse = Warehouse.open(old / "warehouse")
    first, second = (run.run_id for run in list_runs(warehouse)[:2])
    delete_tag(warehouse, "accepted")
    kept = select(warehouse.root, "SELECT * FROM documents ORDER BY doc_id", second)
    done = prune(warehouse, keep=1)
    assert (done.runs, done.busy, done.pinned) == ((first,), (), ())
    assert first not in {run.run_id for run in list_runs(warehouse)}
    assert select(warehouse.root, "SELECT * FROM documents ORDER BY doc_id", second) == kept
