"""An evaluation's shards and tables, from numbers made up here and added up again in plain Python."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calig.errors import InputError
from calig.files import Files, write_json
from calig.warehouse.aggregate import Rebuilt, aggregate, rebuild
from calig.warehouse.catalog import EVALUATION_TABLES
from calig.warehouse.evaluation_tables import aggregate_evaluation
from calig.warehouse.evaluations import (
    EvaluationManifest,
    list_evaluations,
    read_evaluation,
    write_evaluation_shard,
)
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import describe, query
from calig.warehouse.questions import question
from calig.warehouse.shards import completed, held, manifest_path, sweep
from tests.material.warehouses import make_warehouse

METHODS = ("ca-lig", "ig", "random")
METRICS = (("comprehensiveness", "delete"), ("sufficiency", "mask"), ("token_f1", None))
SHARES = (0.1, 0.5, None)


def document_rows(doc_id: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """A document whose `ig` has no token_f1; every fifth is a failure."""
    rng = np.random.default_rng([seed, doc_id + 10])
    own = {"doc_id": doc_id, "doc_key": f"key-{doc_id}"}
    document = {**own, "source_id": f"s{doc_id}", "label": "positive"}
    if doc_id % 5 == 4:
        failed = {"failure": "empty", "failure_detail": "the text is empty"}
        return {"documents": [document | failed], "scores": [], "values": []}
    answer = {"target": "positive", "predicted": "negative", "probability": 0.25}
    document |= {**answer, "words": ["a", "good", "film"], "rationale": [False, True, False]}
    scores = [
        {**own, "method": m, "scores": rng.normal(size=3).tolist(), "passes": 10.0 * i, "seconds": 0.5 * i}
        for i, m in enumerate(METHODS)
    ]
    values = [
        {
            **own,
            "method": method,
            "metric": metric,
            "removal": removal,
            "share": share,
            "value": None if (method, metric) == ("ig", "token_f1") else float(rng.normal()),
        }
        for method in METHODS
        for metric, removal in METRICS
        for share in (SHARES if removal else (None,))
    ]
    return {"documents": [document], "scores": scores, "values": values}


def joined(doc_ids: list[int], seed: int) -> dict[str, list[dict[str, Any]]]:
    found = [document_rows(doc_id, seed) for doc_id in doc_ids]
    return {kind: [row for one in found for row in one[kind]] for kind in ("documents", "scores", "values")}


def make_evaluation(warehouse: Warehouse, evaluation_id: str, documents: int = 23, seed: int = 0) -> None:
    """Write an evaluation of 3 shards and its manifest; the last document is a contrast pair's."""
    ids = [*range(documents - 1), -2]
    for start in range(3):
        rows = joined(ids[start::3], seed)
        write_evaluation_shard(
            warehouse.files, warehouse.evaluation(evaluation_id), rows, tokens=5, seconds=2.0
        )
    manifest = EvaluationManifest(
        evaluation_id=evaluation_id,
        key="0" * 32,
        name="made-up",
        status="complete",
        started=f"2026-03-0{seed + 1}T00:00:00+00:00",
        finished=f"2026-03-0{seed + 1}T01:00:00+00:00",
        model={"id": "m", "revision": None, "hash": "h", "classes": ["negative", "positive"]}
        | {"head": "single_label", "modality": "text"},
        corpus={"key": "c", "source": "c.parquet", "documents": documents},
        method={"target": "predicted", "output": "logit", "baseline": "pad", "tolerance": 1e-2}
        | {"fusion": "column", "weight": 0.5},
        evaluation={"seed": 7},
        methods={m: {"title": m.upper(), "refusal": None} for m in METHODS}
        | {"attcat": {"title": "AttCAT", "refusal": "the model has no such thing"}},
        config={},
        versions={},
        timings={"evaluate": 6.0},
    )
    write_json(warehouse.evaluation(evaluation_id) / "manifest.json", manifest.to_json())


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A run and two evaluations, in an awkwardly named folder; read only."""
    warehouse = Warehouse.open(tmp_path_factory.mktemp("it's [an] evaluation") / "ware*house")
    aggregate(warehouse, make_warehouse(warehouse.root))
    for seed, evaluation_id in enumerate(("made-up-00000000", "made-up-11111111")):
        make_evaluation(warehouse, evaluation_id, seed=seed)
        aggregate_evaluation(warehouse, evaluation_id)
    return warehouse


def rows(warehouse: Warehouse, sql: str, run: str = "latest") -> list[dict[str, Any]]:
    found = query(warehouse, sql, run)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def tables(warehouse: Warehouse) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: query(warehouse, f"SELECT * FROM {table} ORDER BY ALL").rows for table in EVALUATION_TABLES
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_statistics_derived_a_second_way(evaluated: Warehouse, seed: int) -> None:
    every: dict[tuple[Any, ...], dict[int, float]] = defaultdict(dict)
    for doc_id in (*range(22), -2):
        for row in document_rows(doc_id, seed)["values"]:
            if row["value"] is not None:
                key = row["method"], row["metric"], row["removal"], row["share"]
                every[key][doc_id] = row["value"]
    found = rows(
        evaluated,
        f"FROM evaluation_stats WHERE evaluation_id = 'made-up-{str(seed) * 8}' ORDER BY ALL",
    )
    assert len(found) == len(every) == 3 * 3 + 3 * 3 + 2
    for row in found:
        own = every[row["method"], row["metric"], row["removal"], row["share"]]
        reference = every["ca-lig", row["metric"], row["removal"], row["share"]]
        changes = [own[doc_id] - reference[doc_id] for doc_id in own]
        assert row["documents"] == len(own) == 19
        assert row["mean"] == pytest.approx(sum(own.values()) / 19)
        assert row["low"] < row["mean"] < row["high"]
        assert row["difference"] == pytest.approx(sum(changes) / 19)
        sign = -1 if row["metric"] == "sufficiency" else 1
        wins = sum(1.0 if sign * change > 0 else 0.5 if change == 0 else 0.0 for change in changes)
        assert row["win_rate"] == pytest.approx(wins / 19)
        if row["method"] != "ca-lig":
            assert row["difference_low"] < row["difference"] < row["difference_high"]


def test_costs_documents_and_counts_are_added_up(evaluated: Warehouse) -> None:
    methods = rows(evaluated, "FROM evaluation_methods WHERE evaluation_id = 'made-up-00000000'")
    assert [(m["method"], m["title"], m["passes"], m["seconds"]) for m in methods] == [
        ("ca-lig", "CA-LIG", 0.0, 0.0),
        ("ig", "IG", 10.0, 0.5),
        ("random", "RANDOM", 20.0, 1.0),
        ("attcat", "AttCAT", None, None),
    ]
    assert [m["refusal"] for m in methods] == [None, None, None, "the model has no such thing"]
    [own] = rows(evaluated, "FROM evaluations WHERE evaluation_id = 'made-up-00000000'")
    assert (own["documents"], own["pairs"], own["failures"]) == (22, 1, 4)
    assert (own["passes"], own["evaluation_seconds"]) == (19 * 30.0, 6.0)
    assert (own["classes"], own["seed"]) == (["negative", "positive"], 7)


def test_disagreement_is_of_the_methods_but_random(evaluated: Warehouse) -> None:
    found = rows(
        evaluated, "FROM evaluation_documents WHERE evaluation_id = 'made-up-00000000' ORDER BY doc_id"
    )
    assert [row["doc_id"] for row in found] == [-2, *range(22)]
    for row in found:
        scores = {s["method"]: s["scores"] for s in document_rows(row["doc_id"], 0)["scores"]}
        if not scores:
            assert (row["failure"], row["disagreement"], row["words"]) == ("empty", None, None)
            continue
        ranks = [np.argsort(np.argsort(scores[method])) for method in ("ca-lig", "ig")]
        correlation = 1 - 6 * float(((ranks[0] - ranks[1]) ** 2).sum()) / (
            3 * (9 - 1)
        )  # Spearman's own formula
        assert row["disagreement"] == pytest.approx(1 - correlation)
        assert (row["target"], row["predicted"], row["probability"]) == ("positive", "negative", 0.25)
        assert row["words"] == ["a", "good", "film"]


def test_rebuild_makes_what_aggregate_made(evaluated: Warehouse, tmp_path: Path) -> None:
    copy = Warehouse(Path(shutil.copytree(evaluated.root, tmp_path / "copy")))
    copy.database.unlink()
    assert rebuild(copy) == Rebuilt(["run-0"], ["made-up-00000000", "made-up-11111111"])
    assert tables(copy) == tables(evaluated)


def test_evaluations_are_shown_whichever_run_is_chosen(evaluated: Warehouse) -> None:
    sql = "SELECT DISTINCT evaluation_id FROM evaluation_stats ORDER BY 1"
    for run in ("latest", "all", "run-0"):
        assert query(evaluated, sql, run).rows == [("made-up-00000000",), ("made-up-11111111",)]
    assert query(evaluated, "SELECT count(*) FROM documents").rows == [(60,)]


def test_without_a_run_evaluations_can_be_asked_all_the_same(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path)
    make_evaluation(warehouse, "made-up-00000000")
    aggregate_evaluation(warehouse, "made-up-00000000")
    assert query(warehouse, "SELECT count(*) FROM evaluation_stats").rows == [(20,)]
    assert query(warehouse, "SELECT count(*) FROM runs").rows == [(0,)]
    listed = {table for table, *_ in describe(warehouse)}
    assert set(EVALUATION_TABLES) <= listed
    assert "tokens" not in listed
    with pytest.raises(InputError, match="no runs"):
        query(warehouse, "SELECT 1", "previous")


def test_the_question_ranks_methods_by_comprehensiveness(evaluated: Warehouse) -> None:
    found = rows(evaluated, question("methods").sql)
    assert {row["evaluation_id"] for row in found} == {"made-up-00000000", "made-up-11111111"}
    first = [row for row in found if row["evaluation_id"] == "made-up-00000000"]
    assert sorted(row["method"] for row in first) == sorted(METHODS)
    means = [row["comprehensiveness"] for row in first]
    assert means == sorted(means, reverse=True)
    assert all(row["low"] < row["comprehensiveness"] < row["high"] for row in first)
    assert {row["passes"] for row in first} == {0.0, 10.0, 20.0}


def test_a_shard_counts_whole_or_not_at_all(tmp_path: Path) -> None:
    kept = write_evaluation_shard(Files(tmp_path), tmp_path, joined([0, 1, 4], 0), tokens=9, seconds=1.0)
    lost = write_evaluation_shard(Files(tmp_path), tmp_path, joined([2, 3], 0), tokens=9, seconds=1.0)
    assert (kept.documents, kept.failures, kept.tokens) == (3, 1, 9)
    assert {name.partition("-")[0] for name in kept.files} == {"documents", "scores", "values"}
    assert held(Files(tmp_path), tmp_path, column="doc_id") == {0, 1, 2, 3, 4}
    manifest_path(tmp_path, lost.shard).unlink()
    assert held(Files(tmp_path), tmp_path, column="doc_id") == {0, 1, 4}
    (values,) = kept.paths(tmp_path, "values")
    assert len(sweep(tmp_path, older_than=0)) == 3
    assert values.is_file()
    content = bytearray(values.read_bytes())
    content[len(content) // 2] ^= 1
    values.write_bytes(content)
    assert completed(Files(tmp_path), tmp_path) == []


@pytest.mark.parametrize("doc_ids", [[], [1, 1]])
def test_a_shard_needs_documents_each_once(doc_ids: list[int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="each only once"):
        write_evaluation_shard(Files(tmp_path), tmp_path, joined(doc_ids, 0), tokens=0, seconds=0.0)


def test_a_manifest_that_is_none_is_named(evaluated: Warehouse, tmp_path: Path) -> None:
    assert [e.evaluation_id[-1] for e in list_evaluations(evaluated)] == ["0", "1"]
    with pytest.raises(InputError, match=r"there are: made-up-00000000, made-up-11111111$"):
        read_evaluation(evaluated, "nothing")
    warehouse = Warehouse.open(tmp_path)
    write_json(warehouse.evaluation("x") / "manifest.json", {"a": 1})
    with pytest.raises(InputError, match=r"is not an evaluation's manifest .*delete the folder"):
        read_evaluation(warehouse, "x")
    assert list_evaluations(warehouse) == [], "the others can be listed without it"
