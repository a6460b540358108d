"""The commands that keep a warehouse in order, and what the doctor finds there: `runs`, `tag`, `prune`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from calig import doctor
from calig.cli import main
from calig.doctor import Finding
from calig.files import write_json
from calig.warehouse.layout import Warehouse
from calig.warehouse.prune import prune
from calig.warehouse.query import query
from calig.warehouse.runs import list_runs, resolve_run, set_tag
from calig.warehouse.tags import list_tags
from tests.material.tiny import audit_dict
from tests.material.warehouse_nights import add_night, files
from tests.material.warehouses import make_texts

TEXTS = list(dict.fromkeys(make_texts(60, seed=2)))
Calig = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Three complete nights and a failed one."""
    warehouse = Warehouse.open(tmp_path_factory.mktemp("keeping") / "w")
    for night, status in enumerate(("complete", "complete", "failed", "complete")):
        add_night(warehouse, night, TEXTS[8 * night : 8 * night + 10], status=status)
    return warehouse


@pytest.fixture
def warehouse(made: Warehouse, tmp_path: Path) -> Warehouse:
    return Warehouse.open(shutil.copytree(made.root, tmp_path / "w"))


@pytest.fixture
def calig(capsys: pytest.CaptureFixture[str], warehouse: Warehouse) -> Calig:
    """Run a command on the warehouse, in this process; gives its code and output."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, "--warehouse", str(warehouse.root)])
        captured = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, captured.out, captured.err

    return run


def _found(warehouse: Warehouse, fix: bool = False) -> list[Finding]:
    return list(doctor._warehouse(warehouse.root, fix))


def _about(subject: str, findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.subject.startswith(subject)]


def test_runs_tell_tags_accuracy_gates_and_duration(calig: Calig, warehouse: Warehouse) -> None:
    set_tag(warehouse, "nightly-00", "baseline")
    set_tag(warehouse, "nightly-00", "v7")
    gates = [("a", "error", False), ("b", "warn", False), ("c", "error", False), ("d", "error", True)]
    rows = [{"gate": gate, "severity": severity, "passed": passed} for gate, severity, passed in gates]
    write_json(warehouse.run("nightly-00") / "gates.json", rows)
    write_json(warehouse.run("nightly-01") / "gates.json", rows[3:])
    code, printed, _ = calig("runs")
    assert code == 0
    lines = {line.split()[0]: line.split() for line in printed.splitlines()}
    assert [*lines] == ["run", "nightly-03", "nightly-02", "nightly-01", "nightly-00"]
    accuracy = dict(query(warehouse, "SELECT run_id, accuracy FROM runs").rows)
    model = ["model-a", "night.parquet", "10"]
    first, second = (f"{accuracy[run]:.3f}" for run in ("nightly-00", "nightly-01"))
    expected = [
        "nightly-00",
        "complete",
        "baseline",
        "v7",
        *model,
        "10",
        "0",
        first,
        "2",
        "error,",
        "1",
        "warn",
        "0:05:00",
    ]
    assert lines["nightly-00"] == expected
    assert lines["nightly-01"] == ["nightly-01", "complete", *model, "8", "2", second, "none", "0:05:00"]
    assert lines["nightly-02"] == ["nightly-02", "failed", *model, "8", "2", "0:05:00"]


def test_runs_are_listed_without_tables(calig: Calig, warehouse: Warehouse) -> None:
    warehouse.database.unlink()
    assert calig("runs")[0] == 0


def test_tags_are_set_listed_and_taken_away(calig: Calig, warehouse: Warehouse) -> None:
    assert calig("tag", "latest", "baseline") == (0, "baseline: nightly-03\n", "")
    assert calig("tag", "nightly-00", "baseline")[0] == 2
    assert calig("tag", "nightly-00", "baseline", "--force")[0] == 0
    code, printed, _ = calig("tag")
    assert (code, [line.split() for line in printed.splitlines()]) == (
        0,
        [["tag", "run"], ["baseline", "nightly-00"]],
    )
    assert (
        calig("query", "SELECT count(*) FROM documents", "--run", "baseline", "--format", "csv")[1].split()[1]
        == "10"
    )
    assert calig("tag", "--delete", "baseline") == (0, "", "")
    assert list_tags(warehouse) == {}
    for wrong in (["tag", "latest"], ["tag", "latest", "x", "--delete", "x"]):
        code, _, complaint = calig(*wrong)
        assert code == 2
        assert complaint == (
            "calig: calig tag takes a run and a name, or --delete and a name, or nothing, to list the tags\n"
        )


def test_prune_says_the_same_beforehand(calig: Calig, warehouse: Warehouse) -> None:
    before = files(warehouse)
    code, told, _ = calig("prune", "--keep", "1", "--dry-run")
    assert code == 0
    assert files(warehouse) == before
    assert told.splitlines()[:3] == ["  nightly-00", "  nightly-01", "  nightly-02"]
    assert told.splitlines()[3].startswith(
        "would remove 3 runs, 3 corpora, 0 folders and 3 shards of attributions: "
    )
    assert told.splitlines()[3].endswith(" MB")
    assert calig("prune", "--keep", "1") == (0, told.replace("would remove", "removed"), "")
    assert [run.run_id for run in list_runs(warehouse)] == ["nightly-03"]
    assert calig("prune", "--keep", "0")[0] == 2
    assert "Missing option '--keep'" in calig("prune")[2]


def test_the_doctor_finds_tags_of_runs_that_are_gone(warehouse: Warehouse) -> None:
    set_tag(warehouse, "nightly-00", "baseline")
    set_tag(warehouse, "nightly-03", "good")
    shutil.rmtree(warehouse.run("nightly-00"))
    (warehouse.tags / "odd").write_text("?")
    (gone, odd) = _about("tag", _found(warehouse))
    assert (gone.subject, gone.healthy) == ("tag baseline", False)
    assert gone.text.startswith(
        "names run nightly-00, which is gone: set it again with --force, or run `calig doctor"
    )
    assert (odd.subject, odd.healthy) == ("tag odd", False)
    assert {finding.text for finding in _about("tag", _found(warehouse, fix=True))} == {
        "names run nightly-00, which is gone: deleted",
        "is damaged: deleted",
    }
    assert list_tags(warehouse) == {"good": "nightly-03"}
    assert _about("tag", _found(warehouse)) == []


def test_the_doctor_finishes_a_prune(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("calig.warehouse.prune._drop_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            prune(warehouse, 1)
    [found] = _about("prune", _found(warehouse))
    assert (found.healthy, "calig doctor --fix" in found.text) == (None, True)
    assert _about("prune", _found(warehouse, fix=True)) == [Finding("prune", True, "finished for 3 runs")]
    assert _about("prune", _found(warehouse)) == []
    assert query(warehouse, "SELECT run_id FROM runs").rows == [("nightly-03",)]
    assert len(list(warehouse.corpora.iterdir())) == 1
    assert resolve_run(warehouse, "latest") == "nightly-03"


def test_the_doctor_deletes_comparisons_that_were_killed(warehouse: Warehouse) -> None:
    folder, whole = (warehouse.comparison("nightly-03", name) for name in ("nightly-00", "nightly-01"))
    for place in (folder, whole):
        place.mkdir(parents=True)
        (place / "words.parquet").write_bytes(b"")
    write_json(whole / "manifest.json", {})
    with warehouse.at_work():
        [young] = _about("comparison", _found(warehouse, fix=True))
    assert (young.subject, young.healthy) == ("comparison of nightly-03 with nightly-00", None)
    assert [one.healthy for one in _about("comparison", _found(warehouse))] == [None]
    assert [one.text for one in _about("comparison", _found(warehouse, fix=True))] == [
        "was not finished: deleted"
    ]
    assert not folder.exists()
    assert whole.is_dir()


def test_an_audit_of_a_day_without_files_says_which(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = audit_dict(tiny_model, tmp_path / "dt={{ yesterday }}" / "*.csv", tmp_path / "w")
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump(data))
    for day, says in (
        ("2026-11-24", f"corpus.path '{tmp_path}/dt=2026-11-23/*.csv' matches no file"),
        ("24.11.", "date is '24.11.', but should be a date such as 2026-11-24"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["audit", str(path), "--date", day])
        assert stopped.value.code == 2
        assert capsys.readouterr().err == f"calig: {says}\n"
