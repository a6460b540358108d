"""A file of the warehouse that is no longer what it was: seen, named in the log, and made again; nothing is wrong."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from calig.doctor import examine
from calig.errors import InputError
from calig.warehouse.aggregate import aggregate, rebuild
from calig.warehouse.layout import Warehouse
from calig.warehouse.overview import overview
from calig.warehouse.prune import prune
from calig.warehouse.query import query
from calig.warehouse.runs import resolve_run
from tests.material.nights import audit_night
from tests.material.tiers import few
from tests.material.tiny import assert_same_tables, audit_config, run_manifest, shard_times


def _flip(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flipped": _flip,
    "truncated": lambda content: content[: len(content) * 2 // 3],
    "emptied": lambda _: b"",
}
FILES = {
    "tokens of a shard": "attributions/*/tokens-*.parquet",
    "documents of a shard": "attributions/*/documents-*.parquet",
    "manifest of a shard": "attributions/*/manifest-*.json",
    "part of a corpus": "corpora/*/part-*.parquet",
    "manifest of a corpus": "corpora/*/manifest.json",
    "schedule": "schedules/*.json",
}


@pytest.fixture(scope="module")
def audited(
    tiny_model: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A warehouse with one run; not to be changed."""
    warehouse = tmp_path_factory.mktemp("audited") / "w"
    run_id, _ = audit_night(audit_config(tiny_model, tiny_corpus, warehouse), report=False)
    return warehouse, run_id


@pytest.mark.parametrize("damage", few(DAMAGE, ["flipped"], "the same file, damaged otherwise"))
@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_named_and_made_again(
    kind: str,
    damage: str,
    audited: tuple[Path, str],
    tiny_model: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    warehouse = shutil.copytree(audited[0], tmp_path / "w")
    damaged = sorted(warehouse.glob(FILES[kind]))[0]
    whole = damaged.read_bytes()
    damaged.write_bytes(DAMAGE[damage](whole))
    with caplog.at_level(logging.WARNING, "calig"):
        run_id, _ = audit_night(audit_config(tiny_model, tiny_corpus, warehouse), report=False)
    shard = "attributions" in damaged.parts
    named = (
        damaged.stem.partition("-")[2] if shard else damaged.parent.name if "corpus" in kind else damaged.name
    )
    if kind == "schedule" and damage == "flipped" and not caplog.text:
        return  # a number of it is another one now, which is another schedule
    assert any(named in record.getMessage() for record in caplog.records), caplog.text
    assert run_manifest(warehouse, run_id)["attributed"] == (8 if shard else 0)
    assert len(shard_times(warehouse)) == 3
    if kind in ("tokens of a shard", "documents of a shard", "part of a corpus"):
        assert len(damaged.read_bytes()) == len(whole)
    assert_same_tables(warehouse, run_id, *audited, 5e-4)


def test_a_damaged_manifest_of_a_run_is_named_and_passed_over(
    audited: tuple[Path, str],
    tiny_model: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing can make it again; the audit goes on without it, and pays for nothing twice."""
    warehouse = shutil.copytree(audited[0], tmp_path / "w")
    manifest = warehouse / "runs" / audited[1] / "manifest.json"
    manifest.write_text("")
    run_id, _ = audit_night(audit_config(tiny_model, tiny_corpus, warehouse), report=False)
    assert f"passed over: run {audited[1]}: {manifest} is not a run's manifest" in caplog.text
    assert run_manifest(warehouse, run_id)["attributed"] == 0
    assert_same_tables(warehouse, run_id, *audited, 5e-4)
    opened = Warehouse.open(warehouse)
    assert rebuild(opened).runs == [run_id]
    assert [line.run.run_id for line in overview(opened)] == [run_id]
    assert resolve_run(opened, "latest") == run_id
    for asked in (audited[1], audited[1][:-1]):
        with pytest.raises(InputError, match=r"is not a run's manifest .*; delete the folder"):
            resolve_run(opened, asked)
    with pytest.raises(InputError, match="is not a run's manifest"):  # what it needs is not known
        prune(opened, keep=1)
    findings = {finding.subject: finding for finding in examine(warehouse, fix=True)}
    assert findings[f"run {audited[1]}"].healthy is False
    assert manifest.read_text() == ""


@pytest.mark.parametrize(
    "damage", few([*DAMAGE, *range(12)], ["truncated", 5], "the same file, damaged otherwise")
)
def test_damaged_tables_are_refused_or_right_and_rebuilt(
    damage: str | int, audited: tuple[Path, str], tmp_path: Path
) -> None:
    """A flipped bit, also at a dozen places of the file: nothing is answered that was not written."""
    warehouse = Warehouse.open(shutil.copytree(audited[0], tmp_path / "w"))
    content = bytearray(warehouse.database.read_bytes())
    if isinstance(damage, int):
        content[(2 * damage + 1) * len(content) // 24] ^= 1 << damage % 8
        warehouse.database.write_bytes(content)
    else:
        warehouse.database.write_bytes(DAMAGE[damage](bytes(content)))
    wanted = Warehouse.open(audited[0])
    for table in ("runs", "layer_stats", "word_stats", "token_stats", "document_depths", "class_stats"):
        sql = f"SELECT * FROM {table} ORDER BY ALL"
        try:
            rows = query(warehouse, sql, audited[1]).rows
        except InputError as error:
            message = str(error)
        else:
            assert rows == query(wanted, sql, audited[1]).rows
            continue
        assert "calig rebuild" in message
    with contextlib.suppress(
        InputError
    ):  # of what it keeps, a flipped bit is seen or was in nothing that is kept
        aggregate(warehouse, audited[1])
    rebuild(warehouse)
    assert_same_tables(warehouse.root, audited[1], *audited)
