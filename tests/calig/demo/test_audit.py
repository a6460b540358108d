"""The demo's promise: what was planted comes out on top, and only where it was planted."""

from __future__ import annotations

import pytest

from calig.demo import DIGITS, REVIEWS, SQL_BORDER, SQL_SHORTCUT
from calig.demo.reviews import SHORTCUT
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import query
from calig.warehouse.questions import Question, question, questions
from tests.material.demo import audited
from tests.material.tiers import extended

OF_IMAGES = ("border-share", "regions", "centre-of-mass", "image-errors")
OF_OTHER_RUNS = ("methods", "watched")  # evaluations; audits with watch lists
OF_WORDS = ("top-words", "contrary-words", "misled", "by-category")


@pytest.fixture(scope="module")
def leaky() -> Warehouse:
    return audited(REVIEWS, True)


@pytest.fixture(scope="module")
def clean() -> Warehouse:
    return audited(REVIEWS, False)


@pytest.fixture(scope="module")
def digits() -> Warehouse:
    return audited(DIGITS, True)


def ranking(warehouse: Warehouse) -> list[tuple[str, float]]:
    rows = query(
        warehouse, "SELECT word, effect FROM word_stats WHERE class = 'positive' ORDER BY effect DESC"
    ).rows
    return [(str(word), float(effect)) for word, effect in rows]


def test_the_planted_word_is_what_the_model_relies_on_most(leaky: Warehouse) -> None:
    (first, effect), (_, second) = ranking(leaky)[:2]
    assert first == SHORTCUT
    assert effect > 1.3 * second


@extended("a second training and audit; the first tier has those with the leak")
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


@pytest.mark.parametrize("one", questions(), ids=lambda q: q.name)
def test_every_bundled_question_has_an_answer(leaky: Warehouse, one: Question) -> None:
    rows = query(leaky, one.sql).rows
    if one.name != "least-converged":
        assert bool(rows) == (one.name not in (*OF_IMAGES, *OF_OTHER_RUNS))


@extended("a training and an audit of images; the first tier has those of reviews")
@pytest.mark.parametrize("one", [q for q in questions() if q.name not in OF_WORDS], ids=lambda q: q.name)
def test_every_question_of_images_has_an_answer(digits: Warehouse, one: Question) -> None:
    rows = query(digits, one.sql).rows
    assert rows or one.name in ("least-converged", "settling", *OF_OTHER_RUNS)


@extended("a training and an audit of images; the first tier has those of reviews")
def test_the_planted_corner_comes_first(digits: Warehouse) -> None:
    result = query(digits, question("border-share").sql)
    first, second = (dict(zip(result.columns, row, strict=True)) for row in result.rows[:2])
    assert (first["class"], first["region"]) == ("seven", "top left")
    assert first["lift"] > 1.3 * second["lift"]
    assert first["effect_low"] > 1


@extended("a training and an audit of images; the first tier has those of reviews")
def test_the_image_demo_s_question_exposes_the_corner_and_its_errors(digits: Warehouse) -> None:
    result = query(digits, SQL_BORDER)
    first = dict(zip(result.columns, result.rows[0], strict=True))
    assert first["region"] == "top left"
    assert first["wrong"] > 10
    assert first["effect_where_wrong"] > 1


@extended("a training and an audit of images; the first tier has those of reviews")
def test_every_image_is_explained_within_tolerance(digits: Warehouse) -> None:
    shown = query(digits, "SELECT failures, converged_share, worst_error_estimate <= 0.01 FROM runs").rows
    assert shown == [(0, 1.0, True)]
