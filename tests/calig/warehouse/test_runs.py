from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from calig.errors import InputError
from calig.files import write_json
from calig.warehouse.evaluations import list_evaluations
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import query
from calig.warehouse.runs import list_runs, read_run, resolve_run, utc
from tests.material.permissions import held_to_permissions
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


@pytest.mark.parametrize("closed", ["runs", "runs/other", "runs/other/manifest.json", "tags", "evaluations"])
def test_what_may_not_be_read_is_not_passed_over(tmp_path: Path, closed: str) -> None:
    """An older run must not answer in place of the newest one."""
    for seed, run_id in enumerate(("night", "other")):
        make_warehouse(tmp_path, documents=3, depths=2, seed=seed, shards=1, run_id=run_id)
    opened, place = Warehouse.open(tmp_path), tmp_path / closed
    if not place.exists():
        place.mkdir()
    mode = place.stat().st_mode
    place.chmod(0)
    looks: dict[str, list[Callable[[], object]]] = {
        "tags": [lambda: resolve_run(opened, "night")],
        "evaluations": [lambda: list_evaluations(opened)],
    }
    looks_at_runs: list[Callable[[], object]] = [
        lambda: list_runs(opened),
        lambda: resolve_run(opened, "latest"),
        lambda: query(opened, "SELECT 1"),
    ]
    try:
        for look in looks.get(closed, looks_at_runs):
            with (
                held_to_permissions(),
                pytest.raises(InputError, match=rf"^{place}\S* may not be read: permission denied"),
            ):
                look()
    finally:
        place.chmod(mode)
