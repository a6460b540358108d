"""Pruning: what goes, what stays, and what is there when it is killed."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from calig.errors import InputError
from calig.files import Files, write_json
from calig.records import document_key
from calig.warehouse.aggregate import rebuild
from calig.warehouse.compact import compact
from calig.warehouse.layout import Warehouse
from calig.warehouse.needs import IDLE_SECONDS
from calig.warehouse.prune import finish, plan, prune
from calig.warehouse.query import query
from calig.warehouse.runs import list_runs, set_tag
from calig.warehouse.shards import completed, held
from tests.material.tiers import extended, few
from tests.material.warehouse_nights import add_night, corpus_key, files, sight
from tests.material.warehouses import make_texts

TEXTS = list(dict.fromkeys(make_texts(120, seed=5)))


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse.open(tmp_path / "w")


def _ids(warehouse: Warehouse) -> list[str]:
    return [run.run_id for run in list_runs(warehouse)]


def _rows(warehouse: Warehouse) -> list[str]:
    return [row[0] for row in query(warehouse, "SELECT run_id FROM runs ORDER BY 1").rows]


def _sliding(warehouse: Warehouse, nights: int, step: int = 6, size: int = 12) -> list[list[str]]:
    """Nights whose corpora slide over the texts."""
    corpora = [TEXTS[night * step : night * step + size] for night in range(nights)]
    for night, texts in enumerate(corpora):
        add_night(warehouse, night, texts)
    return corpora


def test_the_newest_runs_of_each_audit_stay(warehouse: Warehouse) -> None:
    for night in range(4):
        add_night(warehouse, night, TEXTS[:5])
    for night in (10, 11):
        add_night(warehouse, night, TEXTS[:5], name="weekly")
    pruned = prune(warehouse, 2)
    assert pruned.runs == ("nightly-00", "nightly-01")
    assert _ids(warehouse) == ["nightly-02", "nightly-03", "weekly-10", "weekly-11"]
    assert _rows(warehouse) == _ids(warehouse)
    assert prune(warehouse, 1, "weekly").runs == ("weekly-10",)
    assert _ids(warehouse) == ["nightly-02", "nightly-03", "weekly-11"]
    with pytest.raises(InputError, match="no audit is named daily; there are: nightly, weekly"):
        prune(warehouse, 1, "daily")
    with pytest.raises(InputError, match="--keep 0"):
        prune(warehouse, 0)


def test_tagged_running_and_newer_unfinished_runs_stay(warehouse: Warehouse) -> None:
    statuses = [
        "failed",
        "complete",
        "running",
        "failed",
        "complete",
        "failed",
        "complete",
        "aggregated",
        "running",
    ]
    for night, status in enumerate(statuses):
        add_night(warehouse, night, TEXTS[:5], status=status)
    set_tag(warehouse, "nightly-01", "baseline")
    assert plan(warehouse, 4).runs == (), "fewer complete runs than are to be kept"
    assert plan(warehouse, 3).runs == ("nightly-00",)
    assert prune(warehouse, 2).runs == ("nightly-00", "nightly-03")
    assert _ids(warehouse) == [f"nightly-{night:02d}" for night in (1, 2, 4, 5, 6, 7, 8)]
    assert query(warehouse, "SELECT count(*) FROM documents", "baseline").rows == [(5,)]


def test_what_only_the_old_runs_needed_goes(warehouse: Warehouse) -> None:
    """Nights of 12 texts, 6 of them new each; the newest two hold texts 18 to 36."""
    corpora = _sliding(warehouse, 5)
    other = add_night(warehouse, 5, TEXTS[:4], key="model-b", status="failed")
    add_night(warehouse, 6, corpora[4], compared=["model-c"])
    for key in ("model-c", "model-d"):
        shutil.copytree(warehouse.attributions("model-a"), warehouse.attributions(key))
    before = sum(path.stat().st_size for path in warehouse.root.rglob("*.parquet"))
    told = plan(warehouse, 2)
    everything = files(warehouse)
    assert plan(warehouse, 2) == told
    assert files(warehouse) == everything
    pruned = prune(warehouse, 2)
    assert pruned == told
    assert pruned.runs == tuple(f"nightly-{night:02d}" for night in range(4))
    kept = {corpus_key(corpora[4]), corpus_key(TEXTS[:4])}
    assert {path.name for path in warehouse.corpora.iterdir()} == kept
    folders = {path.name for path in warehouse.attributions("").iterdir()}
    assert folders == {"model-a", "model-b", "model-c", "model-d"}, "model-d may be somebody's: it is new"
    assert other in _ids(warehouse)
    assert pruned.shards == 6, (
        "in model-a and model-c: one of 12 of which 4 stay, and two of 6 that nobody holds"
    )
    wanted = {document_key(text) for text in (*corpora[4], *TEXTS[:4])}
    for key in ("model-a", "model-c"):
        folder = warehouse.attributions(key)
        assert sorted(shard.documents for shard in completed(Files(folder), folder)) == [4, 6, 6]
        assert held(Files(folder), folder) == wanted
    assert len(completed(warehouse.files, warehouse.attributions("model-d"))) == 5
    after = sum(path.stat().st_size for path in warehouse.root.rglob("*.parquet"))
    assert 0.5 < (before - after) / pruned.bytes < 1.5, "of shards written anew the size is estimated"


def test_shards_are_dropped_when_nobody_holds_them_and_cut_when_few_do(warehouse: Warehouse) -> None:
    add_night(warehouse, 0, TEXTS[:12])  # one shard of 12, of which 4 stay: cut
    add_night(warehouse, 1, TEXTS[20:30])  # one of 10, of which none stay: dropped
    add_night(warehouse, 2, TEXTS[40:48])  # one of 8, of which 4 stay: left
    texts = [*TEXTS[8:12], *TEXTS[44:48], *TEXTS[60:63]]
    run_id = add_night(warehouse, 3, texts)
    seen = sight(warehouse, run_id)
    folder = warehouse.attributions("model-a")
    assert [shard.documents for shard in completed(Files(folder), folder)] != []
    pruned = prune(warehouse, 1)
    assert pruned.shards == 2
    assert sorted(shard.documents for shard in completed(Files(folder), folder)) == [3, 4, 8]
    assert held(Files(folder), folder) == {document_key(text) for text in (*texts, *TEXTS[40:44])}
    assert sight(warehouse, run_id) == seen
    paid = {run for shard in completed(Files(folder), folder) for run in shard.paid}
    assert paid == {"nightly-00", "nightly-02", "nightly-03"}
    assert prune(warehouse, 1).shards == 0


def test_what_evaluations_need_stays(warehouse: Warehouse) -> None:
    _sliding(warehouse, 2)
    manifest: dict[str, Any] = dict.fromkeys(
        ("key", "name", "status", "method", "evaluation", "methods", "config", "versions", "timings"), None
    )
    manifest |= {
        "evaluation_id": "e",
        "started": "2026-11-01T00:00:00",
        "finished": None,
        "model": {},
        "corpus": {"key": corpus_key(TEXTS[:12])},
    }
    write_json(warehouse.evaluation("e") / "manifest.json", manifest)
    assert prune(warehouse, 1).corpora == 0
    assert len(list(warehouse.corpora.iterdir())) == 2


def test_data_that_no_run_speaks_of_goes_after_a_day(warehouse: Warehouse) -> None:
    add_night(warehouse, 0, TEXTS[:5])
    orphans = [warehouse.corpus("orphan"), warehouse.attributions("orphan")]
    for folder in orphans:
        folder.mkdir()
        (folder / "manifest-0.json").write_text("{}")
    assert (prune(warehouse, 1).corpora, prune(warehouse, 1).attributions) == (0, 0)
    long_ago = time.time() - IDLE_SECONDS - 60
    for folder in orphans:
        os.utime(folder / "manifest-0.json", (long_ago, long_ago))
        os.utime(folder, (long_ago, long_ago))
    pruned = prune(warehouse, 1)
    assert (pruned.corpora, pruned.attributions) == (1, 1)
    assert not any(folder.exists() for folder in orphans)


def test_a_corpus_that_a_coming_run_has_claimed_stays(warehouse: Warehouse) -> None:
    """It was an old run's, and is brought in again while that run is pruned."""
    add_night(warehouse, 0, TEXTS[:5])
    add_night(warehouse, 1, TEXTS[5:9])
    os.utime(warehouse.corpus(corpus_key(TEXTS[:5])))
    pruned = prune(warehouse, 1)
    assert (pruned.runs, pruned.corpora) == (("nightly-00",), 0)
    assert warehouse.corpus(corpus_key(TEXTS[:5])).is_dir()


def test_a_folder_in_which_an_audit_writes_is_left_alone(warehouse: Warehouse) -> None:
    _sliding(warehouse, 4)
    before = files(warehouse)
    with warehouse.writer_lock(warehouse.attributions("model-a")):
        pruned = prune(warehouse, 1)
        assert pruned.busy == ("model-a",)
        assert pruned.shards == 0
        assert len(pruned.runs) == 3
        gone = before - files(warehouse)
        assert not [name for name in gone if name.startswith("attributions/")]
    assert prune(warehouse, 1).shards == 2


def test_it_waits_for_no_other_writer_unless_told(warehouse: Warehouse) -> None:
    _sliding(warehouse, 2)
    with warehouse.writer_lock(), pytest.raises(InputError, match="another writer is at work"):
        prune(warehouse, 1)
    assert len(_ids(warehouse)) == 2


@pytest.mark.parametrize("damaged", ["run", "tag", "comparison", "database"])
def test_where_something_is_damaged_nothing_is_removed(damaged: str, warehouse: Warehouse) -> None:
    _sliding(warehouse, 3)
    path = {
        "run": warehouse.run("nightly-02") / "manifest.json",
        "tag": warehouse.tags / "baseline",
        "comparison": warehouse.comparison("nightly-02", "x") / "manifest.json",
        "database": warehouse.database,
    }[damaged]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("?" * 5000)
    before = files(warehouse)
    with pytest.raises(InputError) as caught:
        prune(warehouse, 1)
    assert str(path) in str(caught.value)
    assert files(warehouse) == before


class Killed(BaseException):
    """In place of a kill."""


def _kill_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """Have the given step of all that changes the disk raise, and every one after it; half of a folder is deleted."""
    count = 0

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count < step:
                return real(*arguments, **options)
            if real is rmtree and count == step:
                for path in sorted(arguments[0].rglob("*.*"))[::2]:
                    unlink(path)
            raise Killed

        return wrapped

    rmtree, unlink = shutil.rmtree, Path.unlink
    for method in ("rename", "replace", "unlink", "write_bytes"):
        patch.setattr(Path, method, wrap(getattr(Path, method)))
    patch.setattr(shutil, "rmtree", wrap(rmtree))
    patch.setattr(shutil, "copyfile", wrap(shutil.copyfile))


def _view(warehouse: Warehouse, run_id: str) -> list[tuple[Any, ...]]:
    sql = "SELECT * FROM documents LEFT JOIN tokens USING (doc_id) ORDER BY doc_id, position"
    return query(warehouse, sql, run_id).rows


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=extended("every step in place of every ninth"))])
def test_killed_anywhere_it_leaves_the_rest_readable_and_is_finished(
    every: int, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies of a warehouse are pruned, and killed at one step after another."""
    add_night(warehouse, 0, TEXTS[:12])
    add_night(warehouse, 1, [*TEXTS[12:16], *TEXTS[30:35]])
    add_night(warehouse, 2, TEXTS[12:16], key="model-b", status="failed")
    kept = add_night(warehouse, 3, TEXTS[8:16])  # holds 4 of 12 and of 9 documents of the first two shards
    seen = sight(warehouse, kept)
    view = _view(warehouse, kept)
    ends: set[frozenset[str]] = set()
    for step in itertools.count(1, every):
        place = tmp_path / f"step-{step}"
        shutil.copytree(warehouse.root, place)
        copy = Warehouse.open(place)
        with monkeypatch.context() as patch:
            _kill_at(patch, step)
            with suppress(Killed):
                prune(copy, 1)
                break
        assert _view(copy, kept) == view, step
        for path in copy.attributions("").rglob("*.p*"):  # leftovers that are new may be somebody's
            os.utime(path, (1, 1))
        if step % 2:  # as the doctor does: runs not yet set aside stay, whole
            finish(copy)
            assert not copy.pruned.exists()
            assert _ids(copy) == [*(run for run in _rows(copy) if run != kept), *_failed(copy), kept], step
        prune(copy, 1)
        assert not copy.pruned.exists()
        assert _ids(copy) == _rows(copy) == [kept], step
        assert _view(copy, kept) == view, step
        ends.add(frozenset(files(copy)))
        if step % 10 == 0:
            assert sight(copy, kept) == seen, step
        shutil.rmtree(place)
    assert step > 25
    assert ends == {frozenset(files(copy))}


def _failed(warehouse: Warehouse) -> list[str]:
    return [run.run_id for run in list_runs(warehouse) if run.status == "failed"]


def test_nothing_to_finish_is_nothing(warehouse: Warehouse) -> None:
    _sliding(warehouse, 2)
    before = files(warehouse)
    assert finish(warehouse).runs == ()
    assert files(warehouse) == before


@pytest.mark.parametrize("seed", few(range(4), [0], "more random nights"))
def test_no_kept_run_misses_anything(seed: int, warehouse: Warehouse) -> None:
    """Random nights: overlapping corpora, two models, two audits, failed runs, tags, comparisons, merged shards."""
    rng = random.Random(seed)
    for night in range(7):
        start, size = rng.randrange(40), rng.randrange(4, 14)
        texts = rng.sample(TEXTS[start : start + 20], size)
        status = rng.choice(["complete", "complete", "complete", "failed", "running"])
        run_id = add_night(
            warehouse,
            night,
            [*texts, texts[0]],
            key=rng.choice(["model-a", "model-a", "model-b"]),
            name=rng.choice(["nightly", "nightly", "weekly"]),
            status=status,
            compared=rng.choice([(), ("model-b",)]),
        )
        if status == "complete" and rng.random() < 0.2:
            set_tag(warehouse, run_id, f"tag{night}")
        if rng.random() < 0.3:
            for key in ("model-a", "model-b"):
                compact(warehouse.files, warehouse.attributions(key), min_files=2)
    complete = [run.run_id for run in list_runs(warehouse) if run.status == "complete"]
    seen = {run_id: sight(warehouse, run_id) for run_id in complete}
    told = plan(warehouse, 1)
    pruned = prune(warehouse, 1)
    assert pruned == told
    assert pruned.runs
    kept = [run_id for run_id in complete if run_id not in pruned.runs]
    for run_id in kept:
        assert sight(warehouse, run_id) == seen[run_id]
    rebuild(warehouse)
    for run_id in kept:
        found = sight(warehouse, run_id)
        for what, rows in seen[run_id].items():  # sums in another order differ in their last digit
            assert _rounded(found[what]) == _rounded(rows), (run_id, what)
    again = prune(warehouse, 1)
    assert (again.runs, again.corpora, again.attributions, again.shards) == ((), 0, 0, 0)


def _rounded(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [
        tuple(float(f"{value:.9g}") if isinstance(value, float) else value for value in row) for row in rows
    ]
