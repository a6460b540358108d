"""Ranges of shards: divided, written, read back elsewhere, and what of them is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calig import ranges, stages
from calig.errors import InputError
from calig.stages import Run
from tests.material.audits import begin
from tests.material.tiny import Row, audit_config, write_parquet


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path, tiny_rows: list[Row]) -> Run:
    """A run under way, over 9 documents of which two are the same text, in shards of 3; the ranges are written."""
    rows = [*tiny_rows[:5], tiny_rows[2], *tiny_rows[5:8]]
    corpus = write_parquet(tmp_path / "corpus.parquet", rows)
    config = audit_config(tiny_model, corpus, tmp_path / "w", runtime={"shard_documents": 3})
    started = begin(config)
    ranges.write_shards(started, stages.missing_shards(started))
    return started


@given(st.integers(0, 3000), st.integers(1, 50))
def test_ranges_cover_all_shards_once_and_shrink_to_single_ones(count: int, workers: int) -> None:
    found = ranges.guided(count, workers)
    assert [number for one in found for number in one] == list(range(count))
    sizes = [len(one) for one in found]
    assert sizes == sorted(sizes, reverse=True)
    assert not sizes or (sizes[0] <= -(-count // (2 * workers)) and sizes[-1] == 1)


def test_a_run_is_found_again_from_the_warehouse_alone(run: Run) -> None:
    found = ranges.find_run(run.warehouse, run.config, run.run_id)
    assert found == replace(run, model=replace(run.model, id=found.model.id))
    first, _, third = stages.missing_shards(run)
    assert ranges.read_shards(found, [2, 0]) == {0: first, 2: third}


def test_only_what_is_not_there_is_left(run: Run) -> None:
    shards = ranges.read_shards(run, [0, 1, 2])
    stages.attribute_shard(run, shards[1])
    assert ranges.unfinished(run, shards) == [0, 2]
    assert ranges.unfinished(run, {1: shards[1]}) == []


def test_shards_that_are_not_there(run: Run) -> None:
    with pytest.raises(InputError, match="has no shard 3"):
        ranges.read_shards(run, [1, 3])
    (run.warehouse.run(run.run_id) / ranges.SHARDS).unlink()
    with pytest.raises(InputError, match="only an audit on a work pool shares out shards"):
        ranges.read_shards(run, [1])


def test_who_would_compute_something_else_does_not_take_part(run: Run) -> None:
    for other in ({"tolerance": 0.05}, {"target": "label"}):
        method = run.config.method.model_copy(update=other)
        config = run.config.model_copy(update={"method": method})
        with pytest.raises(InputError, match="would be others, or lie under another key"):
            ranges.find_run(run.warehouse, config, run.run_id)
    stages.stop_run(run)
    with pytest.raises(InputError, match="is failed: nothing of it is left to do"):
        ranges.find_run(run.warehouse, run.config, run.run_id)
