from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from calig.errors import InputError
from calig.files import write_json
from calig.warehouse.evaluations import list_all_evaluations, list_evaluations
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import query
from calig.warehouse.runs import list_all_runs, list_runs, read_run, resolve_run, set_tag, utc
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


def test_an_audits_name_is_its_latest_complete_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed, run_id in enumerate(("1-a", "2-b", "3-a", "4-a")):
        make_warehouse(tmp_path, documents=3, depths=2, seed=seed, shards=1, run_id=run_id)
        path = tmp_path / "runs" / run_id / "manifest.json"
        status = "running" if run_id == "4-a" else "complete"
        write_json(path, json.loads(path.read_bytes()) | {"name": run_id[2:], "status": status})
    warehouse = Warehouse.open(tmp_path)
    assert resolve_run(warehouse, "a") == "3-a"
    assert resolve_run(warehouse, "b") == "2-b"
    assert resolve_run(warehouse, "a", before="3-a") == "1-a"
    with pytest.raises(InputError, match="audit of this name has no complete run: none before this one"):
        resolve_run(warehouse, "a", before="1-a")
    set_tag(warehouse, "1-a", "b")
    assert resolve_run(warehouse, "b") == "1-a"
    assert "run b: the tag, not the latest run of the audit of this name" in caplog.text
    with pytest.raises(InputError, match="there are: 4-a, 3-a, 2-b, 1-a; tags: b; audits: a, b"):
        resolve_run(warehouse, "c")


def test_an_audits_name_comes_before_a_prefix_and_after_an_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for seed, (run_id, name) in enumerate((("one", "x"), ("two", "one"), ("three", "th"))):
        make_warehouse(tmp_path, documents=3, depths=2, seed=seed, shards=1, run_id=run_id)
        path = tmp_path / "runs" / run_id / "manifest.json"
        write_json(path, json.loads(path.read_bytes()) | {"name": name})
    warehouse = Warehouse.open(tmp_path)
    assert resolve_run(warehouse, "one") == "one"
    assert resolve_run(warehouse, "th") == "three"
    assert "run th: the latest of the audit of this name, not the run whose id starts so" in caplog.text


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
    with pytest.raises(InputError, match=r"run `calig audit CONFIG\.yaml` first"):
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


def test_damaged_records_of_others_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_warehouse(tmp_path, documents=3, depths=2, shards=1, run_id="good")
    warehouse = Warehouse.open(tmp_path)
    for folder in (warehouse.run("bad"), warehouse.evaluation("worse")):
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("")
    assert [run.run_id for run in list_runs(warehouse)] == ["good"]
    assert list_evaluations(warehouse) == []
    assert resolve_run(warehouse, "latest") == "good"
    for name in ("run bad: ", "evaluation worse: "):
        assert f"passed over: {name}" in caplog.text
    for asked in ("bad", "b"):
        with pytest.raises(InputError, match=r"run bad: .* is not a run's manifest"):
            resolve_run(warehouse, asked)
    for all_of_them in (list_all_runs, list_all_evaluations):
        with pytest.raises(InputError, match="delete the folder"):
            all_of_them(warehouse)
    (tmp_path / "runs" / "good" / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="is not a run's manifest"):  # not: there are no runs
        resolve_run(warehouse, "latest")


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
