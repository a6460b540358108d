"""A run that stops after its documents were attributed: said as it is, and brought to its end by the next audit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from calig import finishing, stages
from calig.config import parse_config
from calig.doctor import examine
from calig.warehouse import lost
from calig.warehouse.inventory import damaged_files
from calig.warehouse.lacking import find_lacking
from calig.warehouse.layout import Warehouse
from calig.warehouse.overview import overview
from calig.warehouse.query import open_tables
from calig.warehouse.runs import read_run, resolve_run
from tests.material.nights import audit_night
from tests.material.tiers import extended
from tests.material.tiny import Audited, Row, assert_same_tables, audit_config, select, write_parquet


@pytest.fixture(scope="module")
def two_runs(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_rows: list[Row]
) -> tuple[Path, str, str]:
    """A warehouse with a run and a second one, which is compared with it; not to be changed."""
    folder = tmp_path_factory.mktemp("finishing")
    corpus = write_parquet(folder / "corpus.parquet", tiny_rows[:6])
    config = audit_config(tiny_model, corpus, folder / "w")
    first, _ = audit_night(config)
    second, _ = audit_night(config.model_copy(update={"compare_to": ("previous",)}))
    return folder / "w", first, second


def _stopped(place: Path, run_id: str, state: str, *gone: str) -> Warehouse:
    """The warehouse as the run's process left it when it died in this state, before it had made some files."""
    path = place / "runs" / run_id / "manifest.json"
    manifest = json.loads(path.read_bytes()) | {"status": state, "finished": None, "files": None}
    path.write_text(json.dumps(manifest))
    for name in gone:
        found = path.parent / name
        shutil.rmtree(found) if found.is_dir() else found.unlink()
    return Warehouse.open(place)


def test_a_stopped_run_is_shown_and_finished(audited: Audited, tmp_path: Path) -> None:
    place = shutil.copytree(audited.warehouse, tmp_path / "w")
    warehouse = _stopped(place, audited.run_id, "aggregated", "gates.json", "report")
    assert [line.status for line in overview(warehouse)] == ["aggregated, stopped"]
    found = {finding.subject: finding for finding in examine(place)}
    assert found[f"run {audited.run_id}"].healthy is None
    assert found[f"run {audited.run_id}"].text.endswith("the next audit finishes it")
    finishing.finish_run(warehouse, audited.run_id)
    assert select(place, "SELECT run_id, status FROM runs") == [(audited.run_id, "complete")]
    assert damaged_files(warehouse, read_run(warehouse, audited.run_id), check=True) == []


@extended("the same of a run that is compared, in either state")
@pytest.mark.parametrize(
    ("state", "gone"),
    [
        ("attributed", ("comparisons", "gates.json", "report", "attributions.parquet")),
        ("aggregated", ("comparisons", "gates.json", "report")),
        ("aggregated", ()),
    ],
)
def test_a_stopped_run_is_finished(
    state: str, gone: tuple[str, ...], two_runs: tuple[Path, str, str], tmp_path: Path
) -> None:
    place, first, second = two_runs
    warehouse = _stopped(shutil.copytree(place, tmp_path / "w"), second, state, *gone)
    if state == "attributed":
        warehouse.database.unlink()
    assert [run.run_id for run in lost.stopped_runs(warehouse)] == [second]
    assert overview(warehouse)[0].status == f"{state}, stopped"
    assert resolve_run(warehouse, "latest") == first

    finishing.finish_run(warehouse, second)
    run = read_run(warehouse, second)
    assert run.status == "complete"
    assert run.files is not None
    assert {"documents.parquet", "attributions.parquet", "gates.json", "report/index.html"} < set(run.files)
    assert damaged_files(warehouse, run, check=True) == []
    assert lost.stopped_runs(warehouse) == []
    assert_same_tables(warehouse.root, second, place, second)
    assert resolve_run(warehouse, "latest") == second
    page = (warehouse.run(second) / "report" / "index.html").read_text("utf-8")
    assert "Gates passed" in page
    assert "Not finished" not in page


@extended("every step of it")
def test_a_run_that_died_while_it_was_finished_is_finished_again(
    two_runs: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, _, second = two_runs
    gone = ("comparisons", "gates.json", "report", "attributions.parquet")
    warehouse = _stopped(shutil.copytree(place, tmp_path / "w"), second, "attributed", *gone)
    for module, step in (
        (stages, "name_shards"),
        (finishing, "compare_runs"),
        (finishing, "store_gates"),
        (finishing, "close_run"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, step, lambda *_, **__: (_ for _ in ()).throw(OSError("died")))
            with pytest.raises(OSError, match="died"):
                finishing.finish_run(warehouse, second)
        assert read_run(warehouse, second).status in ("attributed", "aggregated")
    finishing.finish_run(warehouse, second)
    assert read_run(warehouse, second).status == "complete"
    assert_same_tables(warehouse.root, second, place, second)


def test_a_run_that_lives_is_left_alone(audited: Audited, tmp_path: Path) -> None:
    run_id = audited.run_id
    warehouse = _stopped(shutil.copytree(audited.warehouse, tmp_path / "w"), run_id, "aggregated")
    hold = lost.Hold(warehouse.run(run_id))
    finishing.finish_run(warehouse, run_id)
    assert read_run(warehouse, run_id).status == "aggregated"
    assert overview(warehouse)[0].status == "aggregated"
    hold.release()


def test_a_run_that_cannot_be_finished_is_failed(
    audited: Audited, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = audited.run_id
    place = shutil.copytree(audited.warehouse, tmp_path / "w")
    warehouse = _stopped(place, run_id, "attributed", "documents.parquet")
    finishing.finish_run(warehouse, run_id)
    assert read_run(warehouse, run_id).status == "failed"
    assert f"run {run_id} cannot be finished, and is marked failed: " in caplog.text


@extended("an audit of its own; the crash tests look at each state too")
def test_the_states_of_a_run_in_order(tmp_path: Path, tiny_model: Path, tiny_rows: list[Row]) -> None:
    """Each is written when what it says is there, and the table `runs` shows the one that is true now."""
    corpus = write_parquet(tmp_path / "corpus.parquet", tiny_rows[:4])
    config = parse_config(audit_config(tiny_model, corpus, tmp_path / "w").model_dump(mode="json"))
    warehouse = Warehouse.open(config.warehouse)
    model = stages.describe_model(config)
    manifest = stages.bring_in(warehouse, config, model)
    schedule = stages.learn_schedule(warehouse, config, model, manifest)
    run = stages.start_run(warehouse, config, model, manifest, schedule)

    def status() -> str:
        return read_run(warehouse, run.run_id).status

    assert status() == "running"
    for shard in stages.missing_shards(run):
        stages.attribute_shard(run, shard)
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "make_tables", lambda *_: seen.append(status()))
        stages.aggregate_run(run, 4, {})
    stages.aggregate_run(run, 4, {})
    assert [*seen, status()] == ["attributed", "aggregated"]
    shown = "SELECT status, finished IS NULL FROM runs"
    assert select(warehouse.root, shown, run.run_id) == [("aggregated", True)]
    stages.check_gates(run)
    page = stages.write_report(run)
    assert "Gates passed" in page.read_text("utf-8")
    assert status() == "aggregated"
    with open_tables(warehouse) as connection:
        assert not find_lacking(connection, warehouse)
    stages.complete_run(run)
    assert select(warehouse.root, shown) == [("complete", False)]
