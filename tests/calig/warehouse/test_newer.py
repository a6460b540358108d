"""What a newer version of calig wrote is refused in one line, passed over in lists, and never changed or deleted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from calig.attribution.schedule import Schedule
from calig.corpus.manifest import CorpusManifest, load_corpus
from calig.doctor import examine
from calig.errors import InputError, NewerError
from calig.files import write_json
from calig.formats import FORMAT, readable, stamp
from calig.warehouse.aggregate import aggregate, rebuild
from calig.warehouse.comparisons import read_manifest, read_manifests
from calig.warehouse.evaluations import list_evaluations, read_evaluation
from calig.warehouse.layout import Warehouse
from calig.warehouse.plans import Plan, plan_path, take_plan
from calig.warehouse.prune import prune
from calig.warehouse.query import query
from calig.warehouse.references import resolve_references
from calig.warehouse.refresh import refresh_tables
from calig.warehouse.runs import list_runs, read_run, resolve_run
from calig.warehouse.shards import completed, sweep
from calig.workers import read_schedule

NEWER = {"format": FORMAT + 1, "calig_version": "9.9.9"}


@pytest.fixture
def warehouse(nights: Warehouse) -> Warehouse:
    """Three nights, none of a newer format yet."""
    return nights


def of_later(path: Path, **more: Any) -> Path:
    """Let a newer version have written a manifest, with a key that this one does not know."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_bytes()) if path.exists() else {}
    write_json(path, {**before, **more, **NEWER, "unheard_of": [1]})
    return path


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of all files but locks and the database, by their paths."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name not in (".lock", ".working", "calig.duckdb")
    }


def told(act: Callable[[], Any]) -> str:
    with pytest.raises(
        NewerError, match=rf"calig 9\.9\.9 wrote it, in format {FORMAT + 1}.*upgrade it"
    ) as found:
        act()
    return str(found.value)


def test_a_manifest_without_a_format_is_of_the_first_and_others_say_theirs() -> None:
    assert readable("it", {"a": 1}) == {"a": 1}
    assert readable("it", stamp()) == stamp()
    assert stamp()["format"] == FORMAT
    for no_manifest in ([], None, "text", {"format": "two"}):
        with pytest.raises(TypeError):
            readable("it", no_manifest)


def test_a_newer_run_is_passed_over_and_refused_by_name(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    of_later(warehouse.run("nightly-02") / "manifest.json")
    assert told(lambda: read_run(warehouse, "nightly-02")).startswith("run nightly-02: ")
    assert [run.run_id for run in list_runs(warehouse)] == ["nightly-00", "nightly-01"]
    assert resolve_run(warehouse, "latest") == "nightly-01"
    told(lambda: query(warehouse, "SELECT 1", "nightly-02"))
    assert query(warehouse, "SELECT count(*) FROM documents", "nightly-01").rows == [(8,)]
    with pytest.raises(InputError, match=r"compare_to: run nightly-02: calig 9\.9\.9 wrote it"):
        resolve_references(warehouse, ["nightly-02"], "of its first night")
    assert caplog.text.count("passed over: run nightly-02: calig 9.9.9 wrote it") == 1


def test_pruning_and_mending_leave_all_that_is_newer(warehouse: Warehouse) -> None:
    """A run, a shard, a comparison and an evaluation; and the shards' Parquet files that nothing here names."""
    newest = warehouse.run("nightly-02")
    of_later(newest / "manifest.json")
    of_later(warehouse.comparison("nightly-01", "nightly-00") / "manifest.json", version=1)
    of_later(warehouse.evaluation("later") / "manifest.json")
    shards = warehouse.attributions("model-a")
    of_later(next(shards.glob("manifest-*.json")))
    (shards / "things-of-later.parquet").write_bytes(b"")
    before = hashes(warehouse.root)
    told(lambda: prune(warehouse, keep=1))
    found = {finding.subject: finding for finding in examine(warehouse.root, fix=True)}
    assert "calig 9.9.9" in found["run nightly-02"].text
    assert found["attributions model-a"].healthy is None
    sweep(shards, older_than=0)
    told(lambda: rebuild(warehouse))
    assert hashes(warehouse.root) == before


def test_newer_shards_are_neither_set_aside_nor_done_again(warehouse: Warehouse) -> None:
    path = of_later(next(warehouse.attributions("model-a").glob("manifest-*.json")))
    for check in (True, False):
        told(lambda: completed(warehouse.files, path.parent, check))  # noqa: B023
    assert path.exists()
    told(lambda: query(warehouse, "SELECT 1", "nightly-00"))


def test_newer_tables_are_neither_read_nor_made_anew(warehouse: Warehouse) -> None:
    with duckdb.connect(warehouse.database) as connection:
        connection.execute("CREATE OR REPLACE TABLE written AS SELECT 99 AS format, '9.9.9' AS calig_version")
        connection.execute("ALTER TABLE runs ADD COLUMN unheard_of INTEGER")
    before = warehouse.database.read_bytes()
    acts: list[Callable[[], Any]] = [
        lambda: query(warehouse, "SELECT 1"),
        lambda: refresh_tables(warehouse),
        lambda: aggregate(warehouse, "nightly-00"),
        lambda: rebuild(warehouse),
    ]
    for act in acts:
        with pytest.raises(NewerError, match=r"calig 9\.9\.9 wrote it, in format 99"):
            act()
    found = {finding.subject: finding for finding in examine(warehouse.root, fix=True)}
    assert (found["tables"].healthy, "in format 99" in found["tables"].text) == (False, True)
    assert warehouse.database.read_bytes() == before


def test_tables_say_which_version_made_a_run(warehouse: Warehouse) -> None:
    of_now = query(warehouse, "SELECT format, calig_version FROM written").rows
    assert of_now == [(FORMAT, stamp()["calig_version"])]
    assert query(warehouse, "SELECT DISTINCT format, engine_version FROM runs").rows == [(1, None)]


def test_other_newer_records_are_refused(warehouse: Warehouse, tmp_path: Path) -> None:
    key = read_run(warehouse, "nightly-00").corpus["key"]
    of_later(warehouse.corpus(key) / "manifest.json")
    assert told(lambda: load_corpus(warehouse.files, key)).startswith(f"corpus {key}: ")
    told(lambda: CorpusManifest.from_json((warehouse.corpus(key) / "manifest.json").read_text()))
    of_later(warehouse.evaluation("later") / "manifest.json")
    told(lambda: read_evaluation(warehouse, "later"))
    assert list_evaluations(warehouse) == []
    comparison = warehouse.comparison("nightly-01", "nightly-00")
    of_later(comparison / "manifest.json", version=1)
    told(lambda: read_manifest(comparison))
    assert read_manifests(warehouse.run("nightly-01")) == {}
    schedule = tmp_path / "schedule.json"
    schedule.write_text(Schedule((12,), (1.5,)).to_json())
    assert read_schedule(schedule) == Schedule((12,), (1.5,))
    told(lambda: read_schedule(of_later(schedule)))


def test_a_newer_plan_is_left_to_its_version(warehouse: Warehouse) -> None:
    plan = Plan("nightly", "model-a", "c", "2026-11-01T00:00:00", "m", "cpu", 1, 1, ())
    assert Plan.from_json(plan.to_json()) == plan
    path = plan_path(warehouse, "model-a", "c", "predicted")
    write_json(path, plan.to_json())
    of_later(path)
    take_plan(warehouse, "nightly-00", "model-a", "c", "predicted")
    assert path.exists()
    assert not (warehouse.run("nightly-00") / "plan.json").exists()


def test_an_unknown_key_in_a_run_of_this_format_is_damage(warehouse: Warehouse) -> None:
    path = warehouse.run("nightly-00") / "manifest.json"
    write_json(path, {**json.loads(path.read_bytes()), **stamp(), "unheard_of": 1})
    with pytest.raises(InputError, match="is not a run's manifest"):
        read_run(warehouse, "nightly-00")
