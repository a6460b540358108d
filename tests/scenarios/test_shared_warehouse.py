"""One warehouse in a store, shared by processes with mirrors of their own: two that attribute, one that gathers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from calig import ranges, stages
from calig.config import parse_config
from calig.warehouse.layout import Warehouse
from calig.warehouse.shards import completed
from tests.material.heads import run_stages
from tests.material.object_store import Store, elsewhere
from tests.material.tiers import extended
from tests.material.tiny import assert_same_tables, audit_dict, make_rows, write_parquet

URL = "s3://audits/shared"
ROOT = Path(__file__).parents[2]
WORKER = """
import sys
from calig import ranges, stages
from calig.config import load_config
from calig.warehouse.layout import Warehouse
config = load_config(sys.argv[1])
run = ranges.find_run(Warehouse.open(config.warehouse), config, sys.argv[2])
for doc_ids in ranges.read_shards(run, [int(number) for number in sys.argv[3:]]).values():
    stages.attribute_shard(run, doc_ids)
"""


@pytest.fixture
def machine(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Be on another machine from here on, with a mirror of its own; give where its mirrors lie."""

    def move(name: str) -> Path:
        elsewhere(tmp_path / name, monkeypatch)
        return tmp_path / name

    return move


def _manifests(cache: Path) -> int:
    return len(list(cache.rglob("manifest-*.json")))


@extended("three processes on an object store")
def test_workers_with_mirrors_of_their_own_and_an_aggregator_on_a_third_machine(
    machine: Callable[[str], Path], tiny_model: Path, tmp_path: Path
) -> None:
    machine("starter")
    corpus = write_parquet(tmp_path / "corpus.parquet", make_rows(30, seed=4))
    data = audit_dict(tiny_model, corpus, Path("unused"), runtime={"shard_documents": 5, "workers": 1})
    config = tmp_path / "shared.yaml"
    config.write_text(yaml.safe_dump(data | {"warehouse": URL}))
    audit = parse_config(data | {"warehouse": URL})
    model = stages.describe_model(audit)
    warehouse = Warehouse.open(audit.warehouse)
    manifest = stages.bring_in(warehouse, audit, model)
    run = stages.start_run(
        warehouse,
        audit,
        model,
        manifest,
        stages.learn_schedule(warehouse, audit, model, manifest),
    )
    shards = stages.missing_shards(run)
    assert len(shards) == 6
    ranges.write_shards(run, shards)

    caches = [tmp_path / "worker-0", tmp_path / "worker-1"]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(config), run.run_id, *map(str, range(first, 6, 2))],
            env={**os.environ, "CALIG_CACHE": str(cache), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
        )
        for first, cache in enumerate(caches)
    ]
    assert [worker.wait(timeout=300) for worker in workers] == [0, 0]
    assert [_manifests(cache) for cache in caches] == [3, 3], "each has only what it made itself"

    third = machine("aggregator")
    found = ranges.find_run(Warehouse.open(URL), audit, run.run_id)
    assert _manifests(third) == 0
    assert sum(shard.documents for shard in completed(found.warehouse.files, found.folder)) == 30
    assert list(stages.missing_shards(found)) == []
    stages.aggregate_run(found, 30, {})
    stages.check_gates(found)
    stages.complete_run(found)
    assert run.hold is not None
    run.hold.release()

    alone = run_stages(parse_config(data | {"warehouse": str(tmp_path / "alone")}))
    machine("reader")
    reader = Warehouse.open(URL, create=False)
    assert_same_tables(reader.root, run.run_id, alone.warehouse.root, alone.run_id)
