"""Audits whose warehouse is on an S3 server: killed on one machine, finished on another, asked on a third."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from calig import stages
from calig.config import AuditConfig, parse_config
from calig.engines import open_engine
from calig.warehouse.layout import Warehouse
from calig.warehouse.prune import prune
from calig.warehouse.query import query
from calig.warehouse.runs import list_runs
from calig.warehouse.shards import completed
from tests.material.audits import begin
from tests.material.object_store import Store, elsewhere
from tests.material.tiers import extended
from tests.material.tiny import audit_dict, make_rows, write_parquet

URL = "s3://audits/nightly"


def _config(model: Path, corpus: Path, warehouse: str) -> AuditConfig:
    return parse_config(audit_dict(model, corpus, Path("unused")) | {"warehouse": warehouse})


def _run(config: AuditConfig, shards: int | None = None) -> tuple[stages.Run, int]:
    """The stages of an audit; after so many shards it dies."""
    run = begin(config)
    missing = stages.missing_shards(run)[:shards]
    for doc_ids in missing:
        stages.attribute_shard(run, doc_ids)
    if shards is None:
        stages.aggregate_run(run, sum(map(len, missing)), {})
        stages.write_report(run)
        stages.complete_run(run)
    return run, sum(map(len, missing))


def test_an_audit_goes_on_elsewhere_whatever_the_store_does(
    store: Store, machine: Callable[[], None], tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    store.faults = {500: 0.05, 503: 0.05, 0: 0.01}
    config = _config(tiny_model, tiny_corpus, URL)
    _, done = _run(config, shards=1)
    assert done == 8
    machine()
    run, done = _run(config)
    assert done == 16
    assert store.met, "nothing was put in its way"

    here, _ = _run(_config(tiny_model, tiny_corpus, str(tmp_path / "local")))
    store.faults.clear()
    machine()
    there = Warehouse.open(URL, create=False)
    assert [item.status for item in list_runs(there)] == ["running", "complete"]
    assert (there.run(run.run_id) / "report" / "index.html").is_file()
    for sql in (
        "SELECT doc_key, target, round(logit, 4) FROM documents ORDER BY ALL",
        "SELECT word, class, documents, round(effect, 4) FROM word_stats ORDER BY ALL",
        "SELECT doc_id, position, token, round(score, 3) FROM tokens ORDER BY ALL",
    ):
        rows = query(there, sql).rows
        assert rows
        assert rows == query(here.warehouse, sql).rows


@pytest.fixture
def machine(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Be on another machine from here on: with a mirror of its own."""

    number = iter(range(100))

    def move() -> None:
        elsewhere(tmp_path / f"machine-{next(number)}", monkeypatch)

    move()
    return move


def _ignore(documents: int) -> None:
    """Take no note of progress."""


@pytest.mark.parametrize(
    "another",
    [
        pytest.param(False, id="this machine"),
        pytest.param(True, id="another", marks=extended("the same from another machine")),
    ],
)
def test_workers_put_their_shards_into_the_store(
    another: bool,
    store: Store,
    tiny_model: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workers of another machine bring the corpus to it; what those of this one have done is not fetched again."""
    elsewhere(tmp_path / "mirrors", monkeypatch)
    config = _config(tiny_model, tiny_corpus, URL)
    runtime = config.runtime.model_copy(update={"engine": "processes", "workers": 2})
    run, _ = _run(config.model_copy(update={"runtime": runtime}), shards=0)
    if another:
        monkeypatch.setenv("CALIG_CACHE", str(tmp_path / "another"))
    with open_engine(run.config) as engine, ThreadPoolExecutor(2) as pool:
        for _ in pool.map(
            lambda shard: engine.run(stages.attribute_shard, run, shard, progress=_ignore),
            stages.missing_shards(run),
        ):
            pass
    mirror = run.warehouse.mirror
    assert mirror is not None
    fetched: list[str] = []
    download = mirror.store.download

    def counted(name: str, path: Path) -> None:
        fetched.append(name)
        download(name, path)

    monkeypatch.setattr(mirror.store, "download", counted)
    stages.aggregate_run(run, 24, {})
    stages.complete_run(run)
    assert bool([name for name in fetched if "/attributions/" in name]) == another
    assert len(query(Warehouse.open(URL), "SELECT doc_key FROM documents").rows) == 24


@extended("two audits, and a third machine")
def test_a_prune_on_one_machine_is_one_for_all(
    store: Store,
    machine: Callable[[], None],
    tiny_model: Path,
    tiny_corpus: Path,
    tmp_path: Path,
) -> None:
    """What a run that is pruned was the last to need goes from the store, and what is kept is whole."""
    smaller = write_parquet(tmp_path / "smaller.parquet", make_rows(9, seed=5))
    first, _ = _run(_config(tiny_model, smaller, URL))
    machine()
    second, _ = _run(_config(tiny_model, tiny_corpus, URL))
    machine()
    warehouse = Warehouse.open(URL, create=False)
    assert warehouse.mirror is not None
    assert (
        sum(
            shard.documents
            for shard in completed(warehouse.files, warehouse.attributions(second.attribution_key))
        )
        == 33
    )
    assert prune(warehouse, keep=1).runs == (first.run_id,)
    assert not [
        entry for entry in warehouse.mirror.store.list("objects/") if f"runs/{first.run_id}/" in entry.name
    ]
    machine()
    reader = Warehouse.open(URL, create=False)
    assert [run.run_id for run in list_runs(reader)] == [second.run_id]
    assert len(query(reader, "SELECT doc_key FROM documents").rows) == 24
    attributions = reader.attributions(second.attribution_key)
    shards = completed(reader.files, attributions)
    assert sum(shard.documents for shard in shards) == 24, "those of the pruned run are gone"
    names = {entry.name.split("/")[3] for entry in warehouse.mirror.store.list("objects/attributions/")}
    assert {name for name in names if name.endswith(".parquet")} >= {
        name for shard in shards for name in shard.files
    }
    assert len([name for name in names if name.startswith("manifest-")]) == len(shards)
