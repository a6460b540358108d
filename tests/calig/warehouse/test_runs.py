from __future__ import annotations

import json
from pathlib import Path

import pytest

from calig.errors import InputError
from calig.files import write_json
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import list_runs, read_run, resolve_run, utc
from tests.material.warehouses import make_warehouse


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Runs night-a, night-b and other, in this order, and the unfinished night-c after them."""
    root = tmp_path_factory.mktemp("runs")
    for seed, run_id in enumerate(("night-a", "night-b", "other", "night-c")):
        make_warehouse(root, documents=3, depths=2, seed=seed, shards=1, run_id=run_id)
    path = root / "runs" / "night-c" / "manifest.json"
    write_json(path, json.loads(path.read_bytes()) | {"status": "running", "finished": None})
    return Warehouse.open(root)


@pytest.mark.parametrize(
    ("ref", "run_id"),
    [
        ("night-a", "night-a"),
        ("o", "other"),
        ("night-c", "night-c"),
        ("latest", "other"),
        ("previous", "night-b"),
    ],
)
def test_a_run_is_named_by_id_prefix_or_age(warehouse: Warehouse, ref: str, run_id: str) -> None:
    assert resolve_run(warehouse, ref) == run_id


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("night", "fits 3 runs: night-a, night-b, night-c"),
        ("x", "there are: night-c, other"),
        ("", "no such"),
    ],
)
def test_a_wrong_name_lists_the_candidates(warehouse: Warehouse, ref: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        resolve_run(warehouse, ref)


def test_runs_are_listed_oldest_first_unfinished_ones_too(warehouse: Warehouse) -> None:
    assert [(run.run_id, run.status) for run in list_runs(warehouse)] == [
        ("night-a", "complete"),
        ("night-b", "complete"),
        ("other", "complete"),
        ("night-c", "running"),
    ]


def test_without_runs_the_cure_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run `calig audit` first"):
        resolve_run(Warehouse.open(tmp_path), "latest")
    make_warehouse(tmp_path, documents=3, depths=2, shards=1)
    with pytest.raises(InputError, match="1 complete runs"):
        resolve_run(Warehouse.open(tmp_path), "previous")


def test_a_manifest_survives_json(warehouse: Warehouse) -> None:
    manifest = read_run(warehouse, "other")
    assert manifest.to_json() == json.loads((warehouse.run("other") / "manifest.json").read_bytes())
    assert manifest.weight == 0.5


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"run_id": 1}'])
def test_a_broken_manifest_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "runs" / "r").mkdir(parents=True)
    (tmp_path / "runs" / "r" / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"run r: .*manifest\.json is not a run's manifest"):
        read_run(Warehouse.open(tmp_path), "r")


def test_times_are_utc() -> None:
    assert utc("2026-03-01T02:00:00+02:00") == utc("2026-03-01T00:00:00")
