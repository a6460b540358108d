from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calig.bootstrap import LARGE, NORMAL, expanded_intervals, mean_intervals
from calig.errors import InputError
from calig.files import sha256_file, write_json
from calig.warehouse.aggregate import Rebuilt, aggregate, rebuild
from calig.warehouse.catalog import TABLES
from calig.warehouse.compact import compact
from calig.warehouse.layout import Warehouse
from calig.warehouse.shards import manifest_path
from tests.material.derived_tables import Expected
from tests.material.warehouses import make_warehouse

KEYS = {
    "runs": (),
    "document_depths": ("doc_id", "depth"),
    "layer_stats": ("class", "depth"),
    "settling": ("doc_id",),
    "token_stats": ("class", "token"),
    "word_stats": ("class", "word"),
    "document_maps": ("doc_id", "depth"),
    "region_stats": ("class", "region"),
    "patch_stats": ("class", "grid_rows", "grid_columns", "patch_row", "patch_column"),
    "class_stats": ("class_id",),
    "completeness": ("depth",),
    "failures": ("doc_id",),
}
OF_IMAGES = ("document_maps", "region_stats", "patch_stats")


def rows(path: Path, table: str, run_id: str) -> list[dict[str, Any]]:
    with duckdb.connect(path, read_only=True) as connection:
        result = connection.execute(f"SELECT * FROM {table} WHERE run_id = ? ORDER BY ALL", [run_id])
        names = [column[0] for column in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def tables(path: Path, run_id: str) -> dict[str, list[dict[str, Any]]]:
    return {table: rows(path, table, run_id) for table in TABLES}


def assert_same(found: dict[str, list[dict[str, Any]]], expected: dict[str, list[dict[str, Any]]]) -> None:
    """The same rows, numbers to rounding: sums may be taken in another order."""
    for table in TABLES:
        assert len(found[table]) == len(expected[table]), table
        keys = KEYS.get(table, ())
        index = {tuple(row[key] for key in keys): row for row in found[table]}
        for row in expected[table]:
            mine = index[tuple(row[key] for key in keys)]
            for name, value in row.items():
                close = pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value
                assert mine[name] == close, (table, name)


@pytest.mark.parametrize(
    ("run_id", "expected"), [("run-0", Expected(120, 4, 0)), ("run-1", Expected(60, 7, 1))]
)
@pytest.mark.parametrize("table", [table for table in KEYS if table not in OF_IMAGES])
def test_every_table_derived_a_second_way(
    warehouse: Warehouse, run_id: str, expected: Expected, table: str
) -> None:
    found = rows(warehouse.database, table, run_id)
    wanted = getattr(expected, table)()
    keys = KEYS[table]
    index = {tuple(row[key] for key in keys): row for row in found}
    assert len(index) == len(found) == len(wanted) > 0
    for row in wanted:
        mine = index[tuple(row[key] for key in keys)]
        for name, value in row.items():
            rel = 0.005 if name.startswith("median_") else 1e-5  # half a bin
            close = pytest.approx(value, rel=rel, abs=1e-6) if isinstance(value, float) else value
            assert mine[name] == close, (name, row)


def test_word_intervals_hold_the_mean_and_agree_with_the_plain_bootstrap(warehouse: Warehouse) -> None:
    effects = Expected(120, 4, 0).word_effects()
    rng = np.random.default_rng(5)
    for row in rows(warehouse.database, "word_stats", "run-0"):
        values = np.array([held[1] for held in effects[row["class"], row["word"]]])
        means = values[rng.integers(len(values), size=(4000, len(values)))].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        assert row["effect_low"] <= row["effect"] <= row["effect_high"]
        assert row["effect_low"] == pytest.approx(low, abs=0.15 * (high - low))
        assert row["effect_high"] == pytest.approx(high, abs=0.15 * (high - low))


def test_an_interval_depends_on_its_own_sample_only() -> None:
    values = np.random.default_rng(0).normal(size=(4100, 7))
    together = mean_intervals(values)
    assert together.shape == (4100, 2)
    assert np.allclose(mean_intervals(values[4090:4091]), together[4090:4091], rtol=0, atol=1e-12)


def test_intervals_of_large_samples_are_those_of_the_normal_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calig.bootstrap.CHUNK", 50_000)  # so that the resamples come in pieces
    samples = np.random.default_rng(1).exponential(size=(60, LARGE - 1))
    errors = samples.std(axis=1, keepdims=True) / (LARGE - 1) ** 0.5
    ends = (mean_intervals(samples) - samples.mean(axis=1, keepdims=True)) / errors
    assert ends.mean(axis=0) == pytest.approx([-1.96, 1.96], abs=0.06)  # 4 standard errors of 1000 resamples
    larger = np.concatenate([samples, samples[:, :1]], axis=1)
    assert np.abs(mean_intervals(larger) - mean_intervals(samples)).max() < 0.4 * errors.max()


@pytest.mark.parametrize("draw", ["normal", "exponential", "lognormal", "standard_t", "constant"])
@pytest.mark.parametrize("size", [51, 400, 3000])
def test_intervals_from_moments_are_those_of_very_many_resamples(draw: str, size: int) -> None:
    rng = np.random.default_rng(size)
    sample = {
        "normal": lambda: rng.normal(3, 1, size),
        "exponential": lambda: rng.exponential(size=size),
        "lognormal": lambda: rng.lognormal(0, 1.5, size),
        "standard_t": lambda: rng.standard_t(2.5, size),
        "constant": lambda: np.full(size, 0.1),
    }[draw]()
    means = np.concatenate([sample[rng.integers(size, size=(1000, size))].mean(axis=1) for _ in range(16)])
    error = sample.std() / size**0.5
    skewness = ((sample - sample.mean()) ** 3).mean() / sample.std() ** 3 if draw != "constant" else 0.0
    numbers = (np.array([number]) for number in (float(size), sample.mean(), sample.std(), skewness))
    [found] = expanded_intervals(*numbers)
    assert np.abs(found - np.quantile(means, [0.025, 0.975])).max() <= 0.1 * error + 1e-15
    if draw == "lognormal":  # which mean ± 1.96 standard errors is not
        assert np.abs(sample.mean() - NORMAL * error - np.quantile(means, 0.025)) > 0.1 * error


def test_every_table_and_column_has_a_comment(warehouse: Warehouse) -> None:
    with duckdb.connect(warehouse.database, read_only=True) as connection:
        bare = connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE comment IS NULL AND NOT internal "
            "UNION ALL SELECT table_name, '' FROM duckdb_tables() WHERE comment IS NULL"
        ).fetchall()
    assert bare == []


def test_aggregating_again_changes_nothing(tmp_path: Path) -> None:
    run_id = make_warehouse(tmp_path)
    warehouse = Warehouse.open(tmp_path)
    aggregate(warehouse, run_id)
    before = tables(warehouse.database, run_id)
    aggregate(warehouse, run_id)
    assert_same(tables(warehouse.database, run_id), before)


def test_the_tables_do_not_depend_on_how_the_corpus_is_sharded(tmp_path: Path) -> None:
    found = []
    for name, shards in (("one", 1), ("many", 25), ("merged", 25)):
        run_id = make_warehouse(tmp_path / name, shards=shards)
        warehouse = Warehouse.open(tmp_path / name)
        if name == "merged":
            assert len(compact(warehouse.files, warehouse.attributions("attribution-60-4-0"))) == 1
        aggregate(warehouse, run_id)
        found.append(tables(warehouse.database, run_id))
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


def test_a_document_that_two_shards_hold_counts_once(tmp_path: Path) -> None:
    for name, shards in (("one", [1]), ("two", [1, 3, 4])):
        for number in shards:
            make_warehouse(tmp_path / name, shards=number)
        aggregate(Warehouse.open(tmp_path / name), "run-0")
    one, two = (tables(tmp_path / name / "calig.duckdb", "run-0") for name in ("one", "two"))
    assert_same(two, one)


def test_other_runs_keep_their_rows(tmp_path: Path) -> None:
    first, second = make_warehouse(tmp_path), make_warehouse(tmp_path, seed=1, depths=6)
    warehouse = Warehouse.open(tmp_path)
    aggregate(warehouse, first)
    before = tables(warehouse.database, first)
    aggregate(warehouse, second)
    assert tables(warehouse.database, first) == before


def test_rebuild_makes_what_aggregate_made(warehouse: Warehouse, tmp_path: Path) -> None:
    copy = Warehouse(Path(shutil.copytree(warehouse.root, tmp_path / "copy")))
    copy.database.write_bytes(b"not a database, or not a whole one")
    assert rebuild(copy) == Rebuilt(runs=["run-0", "run-1"], evaluations=[])
    for run_id in ("run-0", "run-1"):
        assert_same(tables(copy.database, run_id), tables(warehouse.database, run_id))


def test_rebuild_sets_damaged_shards_aside(tmp_path: Path) -> None:
    run_id = make_warehouse(tmp_path)
    warehouse = Warehouse.open(tmp_path)
    path = next(warehouse.attributions("attribution-60-4-0").glob("tokens-*.parquet"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    rebuild(warehouse)
    assert "missing" in {row["reason"] for row in rows(warehouse.database, "failures", run_id)}
    assert len(list(path.parent.glob("*.damaged"))) == 1


def test_a_lost_shard_shows_as_missing_documents(tmp_path: Path) -> None:
    run_id = make_warehouse(tmp_path)
    warehouse = Warehouse.open(tmp_path)
    path = next(warehouse.attributions("attribution-60-4-0").glob("manifest-*.json"))
    lost = json.loads(path.read_bytes())
    path.unlink()
    aggregate(warehouse, run_id)
    reasons = [row["reason"] for row in rows(warehouse.database, "failures", run_id)]
    assert lost["documents"] <= reasons.count("missing") <= lost["documents"] + 1  # one text comes twice
    assert rows(warehouse.database, "runs", run_id)[0]["failures"] == len(reasons)


def test_a_run_without_any_shard_has_failures_only(tmp_path: Path) -> None:
    run_id = make_warehouse(tmp_path)
    warehouse = Warehouse.open(tmp_path)
    shutil.rmtree(warehouse.attributions("attribution-60-4-0"))
    aggregate(warehouse, run_id)
    run = rows(warehouse.database, "runs", run_id)[0]
    assert (run["documents"], run["failures"], run["accuracy"]) == (60, 60, None)
    assert rows(warehouse.database, "word_stats", run_id) == []


def test_an_open_reader_keeps_its_snapshot(tmp_path: Path) -> None:
    first, second = make_warehouse(tmp_path), make_warehouse(tmp_path, seed=1)
    warehouse = Warehouse.open(tmp_path)
    aggregate(warehouse, first)
    with duckdb.connect(warehouse.database, read_only=True) as reader:
        aggregate(warehouse, second)
        assert reader.execute("SELECT run_id FROM runs").fetchall() == [(first,)]
    assert len(rows(warehouse.database, "runs", second)) == 1


def test_a_failed_aggregation_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = make_warehouse(tmp_path)
    warehouse = Warehouse.open(tmp_path)
    aggregate(warehouse, run_id)
    before, names = warehouse.database.read_bytes(), sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setattr("calig.warehouse.moments.mean_intervals", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        aggregate(warehouse, run_id)
    assert warehouse.database.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_what_a_killed_writer_left_is_cleaned(tmp_path: Path) -> None:
    run_id = make_warehouse(tmp_path)
    (tmp_path / ".calig.duckdb.0badcafe.part").write_bytes(b"half")
    (tmp_path / ".calig.duckdb.0badcafe.part.wal").write_bytes(b"half")
    (tmp_path / ".spill-old").mkdir()
    aggregate(Warehouse.open(tmp_path), run_id)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".lock", ".working"]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    run_id = make_warehouse(tmp_path)
    warehouse = Warehouse.open(tmp_path)
    with warehouse.writer_lock(), pytest.raises(InputError, match="another writer"):
        aggregate(warehouse, run_id)
    assert not warehouse.database.exists()


def test_a_damaged_or_foreign_database_names_the_cure(tmp_path: Path) -> None:
    run_id = make_warehouse(tmp_path)
    warehouse = Warehouse.open(tmp_path)
    for content in (b"", b"garbage" * 4000):
        warehouse.database.write_bytes(content)
        with pytest.raises(InputError, match="calig rebuild"):
            aggregate(warehouse, run_id)
    warehouse.database.unlink()
    with duckdb.connect(warehouse.database) as connection:
        connection.execute("CREATE TABLE runs (run_id VARCHAR)")
    with pytest.raises(InputError, match="another version of calig"):
        aggregate(warehouse, run_id)


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("runs/run-0/manifest.json", "calig runs"),
        ("runs/run-0/documents.parquet", "run the audit again"),
        ("corpora/corpus-60-0/part-0000?.parquet", "has no parts"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, lost: str, says: str) -> None:
    make_warehouse(tmp_path)
    for path in tmp_path.glob(lost):
        path.unlink()
    with pytest.raises(InputError, match=says):
        aggregate(Warehouse.open(tmp_path), "run-0")


def test_a_result_stands_before_a_failure(tmp_path: Path) -> None:
    make_warehouse(tmp_path, shards=1)
    warehouse = Warehouse.open(tmp_path)
    folder = warehouse.attributions("attribution-60-4-0")
    manifest = next(folder.glob("manifest-*.json"))
    documents = next(folder.glob("documents-*.parquet"))
    table = pq.read_table(documents)
    failed = [row | {"failure": "oom", "failure_detail": "x"} for row in table.to_pylist()]
    clone = folder / "documents-0000.parquet"
    pq.write_table(pa.Table.from_pylist(failed, table.schema), clone)
    value = json.loads(manifest.read_bytes())
    value |= {
        "shard": "0000",
        "files": {clone.name: {"sha256": sha256_file(clone), "bytes": clone.stat().st_size}},
    }
    write_json(manifest_path(folder, "0000"), value)
    aggregate(warehouse, "run-0")
    assert {row["reason"] for row in rows(warehouse.database, "failures", "run-0")} <= {"oom", "non_finite"}
    assert rows(warehouse.database, "runs", "run-0")[0]["failures"] == len(Expected(60, 4, 0).failures())
