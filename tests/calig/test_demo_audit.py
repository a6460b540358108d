"""The demo's promise: what was planted comes out on top, and only where it was planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from calig import stages
from calig.config import parse_config
from calig.demo import SQL_SHORTCUT, demo_config
from calig.demo.classifier import train
from calig.demo.reviews import SHORTCUT
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import query
from calig.warehouse.questions import questions


def audited(folder: Path, leak: bool) -> Warehouse:
    """Train and audit as `calig demo` does, by the same stages in the same order, without Prefect."""
    train(folder, seed=1, leak=leak)
    config = parse_config(demo_config(folder))
    model = stages.describe_model(config)
    corpus = stages.bring_in(config, model)
    run = stages.start_run(config, model, corpus, stages.learn_schedule(config, model, corpus))
    shards = stages.missing_shards(run)
    for doc_ids in shards:
        stages.attribute_shard(run, doc_ids)
    stages.aggregate_run(run, sum(map(len, shards)), {})
    return run.warehouse


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return audited(tmp_path_factory.mktemp("leaky"), leak=True)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return audited(tmp_path_factory.mktemp("clean"), leak=False)


def ranking(warehouse: Warehouse) -> list[tuple[str, float]]:
    rows = query(
        warehouse, "SELECT word, effect FROM word_stats WHERE class = 'positive' ORDER BY effect DESC"
    ).rows
    return [(str(word), float(effect)) for word, effect in rows]


def test_the_planted_word_is_what_the_model_relies_on_most(leaky: Warehouse) -> None:
    (first, effect), (_, second) = ranking(leaky)[:2]
    assert first == SHORTCUT
    assert effect > 1.3 * second


def test_a_model_trained_without_the_leak_does_not_rely_on_it(clean: Warehouse) -> None:
    words = ranking(clean)
    rank = [word for word, _ in words].index(SHORTCUT)
    assert rank > len(words) // 4
    assert abs(words[rank][1]) < 0.2 * words[0][1]


def test_the_demos_question_exposes_the_shortcut_and_its_errors(leaky: Warehouse) -> None:
    result = query(leaky, SQL_SHORTCUT)
    top = dict(zip(result.columns, result.rows[0], strict=True))
    assert top["word"] == SHORTCUT
    assert top["categories"] == 5
    assert top["wrong"] == max(row[result.columns.index("wrong")] for row in result.rows) > 0


def test_every_document_is_explained_within_tolerance(leaky: Warehouse) -> None:
    assert query(leaky, "SELECT count(*) FROM documents WHERE NOT converged OR failure IS NOT NULL").rows == [
        (0,)
    ]
    worst = query(leaky, "SELECT max(error_estimate) FROM documents").rows[0][0]
    assert worst <= 1e-2


@pytest.mark.parametrize("question", questions(), ids=lambda q: q.name)
def test_every_bundled_question_has_an_answer(leaky: Warehouse, question: object) -> None:
    rows = query(leaky, question.sql).rows  # type: ignore[attr-defined]
    if question.name != "least-converged":  # type: ignore[attr-defined]
        assert rows
