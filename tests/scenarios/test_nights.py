"""Nights whose corpora overlap: what is computed, what it cost, and under which date, through the stages."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from calig import stages
from calig.attribution.explainer import Explainer
from calig.config import parse_config
from calig.warehouse.compact import compact
from calig.warehouse.layout import Warehouse
from calig.warehouse.prune import prune
from calig.warehouse.shards import held
from tests.material.heads import run_stages
from tests.material.tiers import extended
from tests.material.tiny import Row, audit_dict, make_rows, run_manifest, select, write_csv, write_parquet


def test_a_night_of_80_percent_overlap_costs_20_percent(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second night's file is in another order and format, under other ids, with 4 of its 20 documents new."""
    rows = make_rows(24)
    write_parquet(tmp_path / "data" / "dt=2026-11-23" / "reviews.parquet", rows[:20])
    second = [{**row, "id": f"other-{number}"} for number, row in enumerate(rows[4:])]
    random.Random(0).shuffle(second)
    write_csv(tmp_path / "data" / "dt=2026-11-24" / "reviews.csv", second)
    warehouse = tmp_path / "w"
    pattern = tmp_path / "data" / "dt={{ yesterday }}" / "*"
    data = audit_dict(tiny_model, pattern, warehouse, runtime={"shard_documents": 3, "threads": 1})
    explained: list[str] = []
    attribute = Explainer.attribute

    def spy(self: Explainer, documents: Any, *rest: Any, **options: Any) -> Any:
        explained.extend(document.key for document in documents)
        return attribute(self, documents, *rest, **options)

    monkeypatch.setattr(Explainer, "attribute", spy)
    pilots: list[int] = []
    pilot = Explainer.pilot
    monkeypatch.setattr(
        Explainer, "pilot", lambda self, documents, *rest: pilots.append(1) or pilot(self, documents, *rest)
    )
    first, second_run = (
        run_stages(parse_config({**data, "date": day})) for day in ("2026-11-24", "2026-11-25")
    )
    assert pilots == [1], "the second night reuses the first's schedule"
    assert first.schedule_key == second_run.schedule_key
    assert first.attribution_key == second_run.attribution_key
    assert len(explained) == len(set(explained)) == 24

    table = select(
        warehouse,
        "SELECT attributed, reused, documents, own_block_passes, block_passes, own_seconds, "
        "attribution_seconds FROM runs ORDER BY started, run_id",
    )
    (night_1, night_2) = table
    assert night_1[:3] == (20, 0, 20)
    assert night_2[:3] == (4, 16, 20)
    assert night_1[3] == night_1[4]
    assert night_1[5] == pytest.approx(night_1[6])
    new = {row["text"] for row in rows[20:]}
    passes, seconds = (
        sum(
            value for text, value in select(warehouse, f"SELECT text, {column} FROM documents") if text in new
        )
        for column in ("block_passes", "seconds")
    )
    assert night_2[3] == passes
    assert night_2[5] == pytest.approx(seconds)
    assert night_2[3] < 0.5 * night_2[4]
    others = "SELECT DISTINCT dt, source_id LIKE 'other-%' FROM documents"
    assert select(warehouse, others) == [("2026-11-24", True)]
    manifest = run_manifest(warehouse, second_run.run_id)
    assert manifest["corpus"]["date"] == "2026-11-25"
    assert manifest["corpus"]["source"] == str(tmp_path / "data" / "dt=2026-11-24" / "*")
    assert manifest["config"]["corpus"]["path"] == str(pattern)
    assert manifest["config"]["date"] == "2026-11-25"


def test_the_same_night_again_costs_nothing(tmp_path: Path, tiny_model: Path, tiny_rows: list[Row]) -> None:
    corpus = write_parquet(tmp_path / "corpus.parquet", tiny_rows[:6])
    data = audit_dict(tiny_model, corpus, tmp_path / "w")
    run_stages(parse_config(data))
    run_stages(parse_config(data))
    columns = "attributed, reused, own_block_passes, own_seconds, block_passes > 0"
    assert select(tmp_path / "w", f"SELECT {columns} FROM runs ORDER BY started, run_id")[1] == (
        0,
        6,
        0,
        0.0,
        True,
    )


@extended("merging and pruning; each has tests of its own in the first tier")
def test_what_a_run_paid_is_known_after_merging_and_pruning(
    tmp_path: Path, tiny_model: Path, tiny_rows: list[Row]
) -> None:
    """Closing a run is tried again after its shards were merged; and the cost outlives the attributions."""
    rows = [tiny_rows[:6], tiny_rows[3:9]]
    warehouse = Warehouse.open(tmp_path / "w")
    runs = []
    for number, night in enumerate(rows):
        corpus = write_parquet(tmp_path / f"{number}.parquet", night)
        runs.append(run_stages(parse_config(audit_dict(tiny_model, corpus, tmp_path / "w"))))
    sql = "SELECT own_block_passes, own_seconds FROM runs WHERE run_id = '{}'"
    before = select(tmp_path / "w", sql.format(runs[1].run_id))
    compact(runs[1].warehouse.files, runs[1].folder, min_files=2)
    stages.aggregate_run(runs[1], 3, {})
    stages.complete_run(runs[1])
    assert select(tmp_path / "w", sql.format(runs[1].run_id)) == before
    assert prune(warehouse, 1).runs == (runs[0].run_id,)
    assert len(held(runs[1].warehouse.files, runs[1].folder)) == 9, (
        "of the merged shard more than half is needed"
    )
    assert select(tmp_path / "w", sql.format(runs[1].run_id)) == before
    third = run_stages(runs[1].config)
    assert select(tmp_path / "w", sql.format(third.run_id)) == [(0, 0.0)]


@extended("merging and pruning; each has tests of its own in the first tier")
def test_a_night_after_a_prune_pays_only_for_what_went(tmp_path: Path, tiny_model: Path) -> None:
    rows = make_rows(12)
    data = {
        night: audit_dict(tiny_model, write_parquet(tmp_path / f"{night}.parquet", part), tmp_path / "w")
        for night, part in enumerate((rows[:6], rows[6:], rows[4:8]))
    }
    runs = [run_stages(parse_config(data[night])) for night in (0, 1)]
    pruned = prune(Warehouse.open(tmp_path / "w"), 1)
    assert (pruned.runs, pruned.corpora, pruned.shards) == ((runs[0].run_id,), 1, 1)
    schedule = json.loads((tmp_path / "w" / "schedules" / f"{runs[0].schedule_key}.json").read_text())
    assert schedule
    third = run_stages(parse_config(data[2]))
    assert third.attribution_key == runs[0].attribution_key
    assert select(tmp_path / "w", f"SELECT attributed, reused FROM runs WHERE run_id = '{third.run_id}'") == [
        (2, 2)
    ]


def test_an_audit_without_a_date_takes_the_day_it_starts(tmp_path: Path, tiny_model: Path) -> None:
    write_parquet(tmp_path / "2026-11-23.parquet", make_rows(4))
    data = audit_dict(tiny_model, tmp_path / "{{ yesterday }}.parquet", tmp_path / "w")
    config = parse_config(data).started(datetime(2026, 11, 24, 2, tzinfo=UTC))
    run = run_stages(config)
    assert run_manifest(tmp_path / "w", run.run_id)["corpus"]["source"].endswith("2026-11-23.parquet")
