"""Which runs `compare_to` means, on the first night and later."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from calig.errors import InputError
from calig.warehouse.aggregate import aggregate
from calig.warehouse.layout import Warehouse
from calig.warehouse.references import resolve_references
from tests.material.tiny import select
from tests.material.warehouses import make_warehouse


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """Runs run-0 to run-3 of the audit `synthetic`, a day apart; run-1 failed, run-3 runs."""
    for seed in range(4):
        make_warehouse(tmp_path, documents=8, seed=seed, shards=1)
    opened = Warehouse.open(tmp_path)
    for run_id, status in (("run-1", "failed"), ("run-3", "running")):
        path = opened.run(run_id) / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "status": status}))
    return opened


def _found(
    warehouse: Warehouse, *names: str, run_id: str | None = None, audit: str = "synthetic"
) -> list[tuple[str, str]]:
    return [(one.run_id, one.requested) for one in resolve_references(warehouse, names, audit, run_id)]


def test_previous_is_the_last_complete_run_of_the_audit_before_this_one(warehouse: Warehouse) -> None:
    assert _found(warehouse, "previous", run_id="run-3") == [("run-2", "previous")]
    assert _found(warehouse, "previous", run_id="run-2") == [("run-0", "previous")]
    assert _found(warehouse, "previous") == [("run-2", "previous")]


def test_previous_passes_over_runs_with_few_documents(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Failed documents do not count: of run-0's 40, two fail; run-1 has 8, run-2 none at all."""
    for seed, documents in enumerate((40, 8, 8)):
        make_warehouse(tmp_path, documents=documents, seed=seed, shards=1)
    opened = Warehouse.open(tmp_path)
    for run_id in ("run-0", "run-1"):
        aggregate(opened, run_id)
    [(explained,)] = select(tmp_path, "SELECT documents - failures FROM runs WHERE run_id = 'run-0'")
    assert 20 < explained < 40
    path = opened.run("run-2") / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"corpus": manifest["corpus"] | {"documents": 0}}))

    def previous(fewest: int, run_id: str | None = None) -> tuple[str, tuple[str, ...]]:
        [found] = resolve_references(opened, ["previous"], "synthetic", run_id, fewest)
        return found.run_id, found.passed_over

    assert previous(1) == ("run-1", ("run-2",))
    assert previous(explained) == ("run-0", ("run-2", "run-1"))
    assert "previous is run-0: passed over run-2 (0 explained), run-1 (" in caplog.text
    assert previous(explained, "run-1") == ("run-0", ())
    assert previous(explained + 1) == ("run-1", ("run-2",))  # none has so many: the last with any
    [both] = resolve_references(opened, ["run-0", "previous"], "synthetic", None, explained)
    assert (both.requested, both.passed_over) == ("run-0, previous", ("run-2", "run-1"))
    shutil.rmtree(opened.run("run-0"))
    shutil.rmtree(opened.run("run-1"))
    assert resolve_references(opened, ["previous"], "synthetic") == []
    assert "no run of synthetic has an explained document yet" in caplog.text


def test_names_of_one_run_are_one_comparison(warehouse: Warehouse) -> None:
    assert _found(warehouse, "previous", "run-0", "run-2", run_id="run-3") == [
        ("run-2", "previous, run-2"),
        ("run-0", "run-0"),
    ]


def test_on_the_first_night_there_is_nothing_to_compare_with(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    assert _found(warehouse, "previous", "baseline", run_id="run-0") == []
    assert "baseline: no complete run of synthetic yet" in caplog.text
    assert _found(warehouse, "previous", audit="another") == []
    # a run of another audit is one that there is
    assert _found(warehouse, "run-0", "previous", audit="another") == [("run-0", "run-0")]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("baseline", "compare_to: run baseline: "),
        ("run-1", "compare_to: run-1: run run-1 is failed, not complete"),
        ("latest", "compare_to: latest: that will be the run itself; write previous"),
    ],
)
def test_later_a_name_that_names_nothing_is_wrong(warehouse: Warehouse, name: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        _found(warehouse, name)


def test_a_run_is_no_reference_of_its_own(warehouse: Warehouse) -> None:
    assert _found(warehouse, "run-2", run_id="run-2") == []
