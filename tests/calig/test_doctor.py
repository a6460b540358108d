"""The doctor: what it finds in a healthy, an absent and a damaged warehouse, and what it mends."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb
import pytest

from calig.cli import main
from calig.doctor import Finding, examine
from calig.files import write_json
from calig.warehouse.layout import Warehouse
from tests.material.tiny import Audited, assert_same_tables, run_manifest, select


@pytest.fixture
def warehouse(audited: Audited, tmp_path: Path) -> Path:
    """A warehouse with one run, free to be damaged."""
    return shutil.copytree(audited.warehouse, tmp_path / "w")


def _findings(warehouse: Path, fix: bool = False) -> dict[str, Finding]:
    return {finding.subject.split()[0]: finding for finding in examine(warehouse, fix)}


@pytest.fixture(autouse=True)
def _no_prefect_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def test_a_healthy_warehouse(warehouse: Path) -> None:
    found = _findings(warehouse)
    assert [f for f in found.values() if f.healthy is False] == []
    assert found["warehouse"].text == f"1 runs at {warehouse}"
    assert found["attributions"].text == "3 shards"
    assert found["tables"].healthy is True
    assert found["prefect"].healthy is None
    assert "PREFECT_API_URL" in found["prefect"].text


def test_no_warehouse_yet_is_no_illness(tmp_path: Path) -> None:
    found = _findings(tmp_path / "none")
    assert found["warehouse"] == Finding(
        "warehouse", None, f"none at {tmp_path / 'none'} yet: the first audit makes one"
    )
    assert "tables" not in found
    assert not (tmp_path / "none").exists()


def test_damaged_tables_are_found_and_mended(warehouse: Path, audited: Audited) -> None:
    database = warehouse / "calig.duckdb"
    database.write_bytes(b"not a database" * 1000)
    found = _findings(warehouse)["tables"]
    assert found.healthy is False
    assert str(database) in found.text
    assert "calig doctor --fix" in found.text
    assert _findings(warehouse, fix=True)["tables"] == Finding("tables", True, "rebuilt for 1 runs")
    assert_same_tables(warehouse, audited.run_id, audited.warehouse, audited.run_id)


def test_a_complete_run_that_the_tables_lack_is_found_and_mended(warehouse: Path, audited: Audited) -> None:
    """As a kill between the run's manifest and its tables left it, when the manifest was written first."""
    with duckdb.connect(warehouse / "calig.duckdb") as connection:
        connection.execute("DELETE FROM runs")
    found = _findings(warehouse)["tables"]
    assert found.healthy is None, "the next audit sees to it"
    assert f"lacks run {audited.run_id}" in found.text
    _findings(warehouse, fix=True)
    assert select(warehouse, "SELECT run_id FROM runs") == [(audited.run_id,)]
    assert _findings(warehouse)["tables"].healthy is True


def test_leftovers_of_killed_writers_are_swept(warehouse: Path) -> None:
    [folder] = (warehouse / "attributions").iterdir()
    orphan, fresh = folder / "tokens-0123456789abcdef.parquet", folder / "documents-fedcba9876543210.parquet"
    orphan.write_bytes(b"")
    fresh.write_bytes(b"")
    os.utime(orphan, (1, 1))
    assert "leftovers" not in _findings(warehouse)
    with Warehouse.open(warehouse).at_work():
        assert _findings(warehouse, fix=True)["leftovers"].text.startswith("1 files that killed writers left")
    assert not orphan.exists()
    assert fresh.exists(), "its writer may be at work"
    assert _findings(warehouse, fix=True)["leftovers"].text.startswith("1 files that killed writers left")
    assert not fresh.exists()


@pytest.mark.parametrize("status", ["running", "failed"])
def test_unfinished_runs_are_named(status: str, warehouse: Path, audited: Audited) -> None:
    manifest = run_manifest(warehouse, audited.run_id) | {"run_id": "20990101-000000-x", "status": status}
    write_json(Warehouse.open(warehouse).run("20990101-000000-x") / "manifest.json", manifest)
    found = _findings(warehouse)["warehouse"]
    assert found.healthy is None
    assert "unfinished: 20990101-000000-x" in found.text


def test_a_prefect_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--warehouse", str(tmp_path / "[bold]none")])
    assert stopped.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if line.startswith("!!")]
    assert line.startswith("!! prefect: http://127.0.0.1:9/api does not answer (")
    assert line.endswith("start it, or unset PREFECT_API_URL")
    assert f"-- warehouse: none at {tmp_path / '[bold]none'} yet: the first audit makes one" in lines


def test_a_prefect_that_answers(
    warehouse: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--warehouse", str(warehouse)])
    assert stopped.value.code == 0
    assert f"ok prefect: {prefect_server} answers" in capsys.readouterr().out.splitlines()


def test_homes_and_proxies_that_need_care_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://user:secret@proxy:3128")
    monkeypatch.setenv("CALIG_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "file"))
    found = {finding.subject: finding for finding in examine(tmp_path / "none")}
    assert found["cache"].healthy is None
    assert (
        "file/cache cannot be written (a file is there): a temporary folder takes its place"
        in found["cache"].text
    )
    assert found["prefect home"].healthy is False
    assert found["prefect home"].text.endswith("set PREFECT_HOME to one that can, or unset it")
    assert "NO_PROXY=localhost,127.0.0.1,::1" in found["proxy"].text
    assert "secret" not in found["proxy"].text


def test_a_warehouse_that_cannot_be_written(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a read-only mount, which only root could make, and root passes by the permissions of folders."""
    monkeypatch.setattr("calig.warehouse.layout.unwritable", lambda _: "Read-only file system")
    found = list(examine(warehouse))
    [said] = [finding for finding in found if "cannot be written" in finding.text]
    assert said == Finding(
        "warehouse",
        None,
        f"{warehouse} cannot be written (Read-only file system): query, runs and history work, what writes does not",
    )
    assert [finding for finding in found if finding.healthy is False] == []
    assert (
        next(finding for finding in examine(warehouse, fix=True) if finding.subject == "warehouse").healthy
        is False
    )
