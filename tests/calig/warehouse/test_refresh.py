"""Tables that lack what is finished: made by the next writer, and said by a reader, which changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pytest

from calig.cli import main
from calig.errors import InputError
from calig.warehouse.aggregate import rebuild
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import query
from calig.warehouse.refresh import refresh_tables
from tests.material.tiers import few
from tests.material.tiny import assert_same_tables
from tests.material.warehouses import make_warehouse


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, both in the tables; not to be changed."""
    root = tmp_path_factory.mktemp("refresh") / "w"
    for seed, run_id in enumerate(("run-a", "run-b")):
        make_warehouse(root, documents=6, depths=2, seed=seed, shards=1, run_id=run_id)
    rebuild(Warehouse.open(root))
    return root


@pytest.fixture
def warehouse(whole: Path, tmp_path: Path) -> Warehouse:
    """The same, free to be damaged."""
    return Warehouse.open(shutil.copytree(whole, tmp_path / "w"))


def _runs(warehouse: Warehouse) -> list[str]:
    with duckdb.connect(warehouse.database, read_only=True) as connection:
        return [row[0] for row in connection.execute("SELECT run_id FROM runs ORDER BY run_id").fetchall()]


def _forget(warehouse: Warehouse, run_id: str) -> None:
    with duckdb.connect(warehouse.database) as connection:
        connection.execute("DELETE FROM runs WHERE run_id = ?", [run_id])


def test_a_run_that_the_tables_lack(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    refresh_tables(warehouse)
    assert caplog.text == "", "nothing is lacking"
    _forget(warehouse, "run-a")
    before = warehouse.database.read_bytes()
    assert query(warehouse, "SELECT run_id FROM runs").rows == [("run-b",)]
    assert f"not in {warehouse.database} yet: run run-a; the next audit adds them" in caplog.text
    assert warehouse.database.read_bytes() == before, "a reader writes nothing"
    with pytest.raises(SystemExit) as stopped:
        main(["tag", "run-a", "baseline", "--warehouse", str(warehouse.root)])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == "baseline: run-a\n"
    assert f"{warehouse.database} lacked run run-a: added" in caplog.text
    assert _runs(warehouse) == ["run-a", "run-b"]


def test_a_run_under_way_is_lacking_to_nobody(warehouse: Warehouse) -> None:
    path = warehouse.run("run-a") / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"status": "attributed"}))
    _forget(warehouse, "run-a")
    refresh_tables(warehouse)
    assert _runs(warehouse) == ["run-b"]


def test_a_run_whose_files_are_gone_is_named_and_holds_up_no_other(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    for run_id in ("run-a", "run-b"):
        _forget(warehouse, run_id)
    (warehouse.run("run-a") / "documents.parquet").unlink()
    refresh_tables(warehouse)
    assert _runs(warehouse) == ["run-b"]
    assert f"not added: run run-a: {warehouse.run('run-a') / 'documents.parquet'} is missing" in caplog.text


@pytest.mark.parametrize(
    "content", few([None, b"", b"garbage" * 4000, "cut"], ["cut"], "the same, damaged otherwise")
)
def test_tables_that_are_missing_or_damaged_are_made_again(
    content: bytes | str | None, whole: Path, warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    if content is None:
        warehouse.database.unlink()
    else:
        cut = warehouse.database.read_bytes()[:100_000]
        warehouse.database.write_bytes(cut if isinstance(content, str) else content)
    refresh_tables(warehouse)
    assert "made again from the Parquet files, for 2 runs" in caplog.text
    for run_id in ("run-a", "run-b"):
        assert_same_tables(warehouse.root, run_id, whole, run_id)


def test_tables_of_a_newer_version_are_not_overwritten(warehouse: Warehouse) -> None:
    with duckdb.connect(warehouse.database) as connection:
        connection.execute("ALTER TABLE runs ADD COLUMN of_tomorrow INTEGER")
    before = warehouse.database.read_bytes()
    with pytest.raises(InputError, match="of another version of calig"):
        refresh_tables(warehouse)
    assert warehouse.database.read_bytes() == before
    with duckdb.connect(warehouse.database) as connection:
        connection.execute("ALTER TABLE runs DROP COLUMN of_tomorrow")
        connection.execute("ALTER TABLE runs DROP COLUMN accuracy")
    refresh_tables(warehouse)
    assert query(warehouse, "SELECT count(accuracy) FROM runs").rows == [(2,)], "an older one is made anew"


def test_tables_that_somebody_has_open_are_not_damaged(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As DuckDB's own program has them, which writes."""
    error = duckdb.IOException("IO Error: Could not set lock on file: Conflicting lock is held")

    def locked(*_: object) -> None:
        raise error

    monkeypatch.setattr("calig.warehouse.database.check_format", locked)
    with pytest.raises(InputError, match="Conflicting lock is held"):
        refresh_tables(warehouse)
