"""Tags: what they may be called, what they name, and who takes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from calig.errors import InputError
from calig.files import write_json
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import resolve_run, set_tag
from calig.warehouse.tags import delete_tag, list_tags
from tests.material.warehouses import make_warehouse


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """Runs night-a and night-b, the failed night-c, and late."""
    for seed, run_id in enumerate(("night-a", "night-b", "night-c", "late")):
        make_warehouse(tmp_path, documents=3, depths=2, seed=seed, shards=1, run_id=run_id)
    path = tmp_path / "runs" / "night-c" / "manifest.json"
    write_json(path, json.loads(path.read_bytes()) | {"status": "failed"})
    return Warehouse.open(tmp_path)


def test_a_tag_names_a_run(warehouse: Warehouse) -> None:
    assert list_tags(warehouse) == {}
    assert set_tag(warehouse, "night-a", "baseline") == "night-a"
    assert set_tag(warehouse, "latest", "release-7.1") == "late"
    assert set_tag(warehouse, "baseline", "also") == "night-a", "a tag names the run to tag"
    assert list_tags(warehouse) == {"also": "night-a", "baseline": "night-a", "release-7.1": "late"}
    assert json.loads((warehouse.tags / "baseline").read_bytes()) == {"run_id": "night-a"}
    assert resolve_run(warehouse, "baseline") == "night-a"
    delete_tag(warehouse, "baseline")
    assert set(list_tags(warehouse)) == {"also", "release-7.1"}
    with pytest.raises(InputError, match=r"run baseline: no such run .* tags: also, release-7\.1"):
        resolve_run(warehouse, "baseline")


def test_it_is_moved_only_by_force(warehouse: Warehouse) -> None:
    set_tag(warehouse, "night-a", "baseline")
    assert set_tag(warehouse, "night-a", "baseline") == "night-a", "again is no move"
    with pytest.raises(InputError, match="tag baseline names run night-a; move it with --force"):
        set_tag(warehouse, "late", "baseline")
    assert set_tag(warehouse, "late", "baseline", force=True) == "late"
    assert resolve_run(warehouse, "baseline") == "late"


def test_an_exact_tag_stands_before_a_prefix(warehouse: Warehouse) -> None:
    """A run of later times may start as an older tag does."""
    set_tag(warehouse, "late", "zz")
    make_warehouse(warehouse.root, documents=3, depths=2, seed=9, shards=1, run_id="zz-1")
    assert resolve_run(warehouse, "zz") == "late"
    assert resolve_run(warehouse, "zz-") == "zz-1"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("latest", "meanings of their own"),
        ("previous", "meanings of their own"),
        ("all", "meanings of their own"),
        ("night-a", "the id of run night-a starts so"),
        ("nig", "the id of run night-a starts so"),
        ("", "use letters"),
        ("a b", "use letters"),
        ("../x", "use letters"),
        (".hidden", "use letters"),
        ("-x", "use letters"),
        ("x" * 101, "use letters"),
    ],
)
def test_what_could_be_taken_for_a_run_is_no_tag(name: str, says: str, warehouse: Warehouse) -> None:
    with pytest.raises(InputError, match=says):
        set_tag(warehouse, "late", name)
    assert list_tags(warehouse) == {}


def test_only_a_complete_run_that_is_there_is_tagged(warehouse: Warehouse) -> None:
    with pytest.raises(InputError, match="run night-c is failed: only a complete run can be tagged"):
        set_tag(warehouse, "night-c", "x")
    with pytest.raises(InputError, match="run nobody: no such run"):
        set_tag(warehouse, "nobody", "x")
    with pytest.raises(InputError, match="tag x: there is no such tag; tags are: none"):
        delete_tag(warehouse, "x")


def test_a_tag_whose_run_is_gone_says_so(warehouse: Warehouse) -> None:
    set_tag(warehouse, "night-a", "baseline")
    shutil.rmtree(warehouse.run("night-a"))
    with pytest.raises(
        InputError, match="tag baseline names run night-a, which is gone: set it with --force"
    ):
        resolve_run(warehouse, "baseline")
    assert set_tag(warehouse, "late", "baseline", force=True) == "late"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"run_id": 1}'])
def test_a_damaged_tag_is_named_and_can_be_set_again(
    content: str, warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    warehouse.tags.mkdir()
    (warehouse.tags / "baseline").write_text(content)
    set_tag(warehouse, "late", "other")
    assert list_tags(warehouse) == {"other": "late"}
    assert "passed over: tag baseline: " in caplog.text
    for use in (lambda w: resolve_run(w, "baseline"), lambda w: set_tag(w, "late", "baseline")):
        with pytest.raises(InputError, match=r"tag baseline: .*baseline is damaged"):
            use(warehouse)
    set_tag(warehouse, "late", "baseline", force=True)
    assert resolve_run(warehouse, "baseline") == "late"
