"""Rationales in every spelling, and agreement with them, by hand and against scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calig.errors import InputError
from calig.evaluation.plausibility import (
    average_precision,
    iou_f1,
    plausibility,
    rationale,
    rationale_share,
    spans_of,
    token_f1,
)
from calig.evaluation.subject import Case, Subject
from calig.records import Document, document_key
from tests.calig.evaluation.planted import at, cases
from tests.material import zoo
from tests.material.fuzz import examples

TEXT = "the cast is great , but not the film"
#       0123456789012345678901234567890123456


@pytest.mark.parametrize(
    "value",
    [
        [{"start": 12, "end": 17}, {"start": 24, "end": 27}],
        [[12, 17], [24, 27]],
        [(12, 17), (24, 27)],
        np.array([[12, 17], [24, 27]]),
        "[[12, 17], [24, 27]]",
        [12, 13, 14, 15, 16, 24, 25, 26],
        np.array([12, 13, 14, 15, 16, 24, 25, 26]),
        "[12, 13, 14, 15, 16, 24, 25, 26]",
        ["great", "not"],
        '["great", "not"]',
        [0, 0, 0, 1, 0, 0, 1, 0, 0],
    ],
)
def test_every_spelling_of_a_rationale_marks_the_same_words(value: Any) -> None:
    (case,) = cases(Subject(zoo.explainer("bert")), [TEXT])
    marked = rationale(value, case)
    assert marked is not None
    assert [word for word, is_marked in zip(TEXT.split(), marked, strict=True) if is_marked] == [
        "great",
        "not",
    ]


@pytest.mark.parametrize("value", [None, [], "", "[]", [0] * 9, np.array([])])
def test_a_document_with_nothing_marked_has_no_rationale(value: Any) -> None:
    (case,) = cases(Subject(zoo.explainer("bert")), [TEXT])
    assert rationale(value, case) is None


@pytest.mark.parametrize(
    ("value", "text", "message"),
    [
        ([0, 1], "good film", "may be a 0 or 1 for each word, or indices"),
        ([1], "good", "may be a 0 or 1 for each word, or indices"),
        (
            [3, 2],
            TEXT,
            "neither indices of characters, which rise, nor a 0 or 1 for each of the text's 9 words",
        ),
        ([0, 1, 1], TEXT, "nor a 0 or 1 for each of the text's 9 words"),
        ([40], TEXT, "characters 40 to 41 are no part of the text, which has 36"),
        ([[5, 5]], TEXT, "characters 5 to 5 are no part"),
        ([[-1, 5]], TEXT, "characters -1 to 5 are no part"),
        ([[1, 2, 3]], TEXT, r"\[1, 2, 3\] is no span"),
        ([{"start": 3}], TEXT, "is no span"),
        ([1.5, 2.5], TEXT, "1.5 is no span"),
        (["awful"], TEXT, "'awful' is not in the text; give the marked strings"),
        (["not", "great"], TEXT, "'great' is not in the text after character 27"),
        ("great", TEXT, "'great' is no list"),
        (7, TEXT, "7 is no list"),
        ({"start": 0, "end": 3}, TEXT, "is no list"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(value: Any, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        spans_of(value, text)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("corpus.rationale: ")


def test_rising_flags_of_another_number_than_words_are_characters() -> None:
    assert spans_of([0, 1], "good") == [(0, 1), (1, 2)]
    assert spans_of([0, 1, 0], "a good film") == [(2, 6)]


def test_strings_that_repeat_are_matched_in_order() -> None:
    assert spans_of(["the", "the"], TEXT) == [(0, 3), (28, 31)]


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "xlm-roberta"])
def test_a_word_is_marked_if_any_of_its_tokens_is(name: str) -> None:
    subject = Subject(zoo.explainer(name))
    text = "a brilliantly odd film"
    (case,) = cases(subject, [text])
    marked = rationale([[5, 7]], case)  # two letters of `brilliantly`
    assert marked is not None
    assert len(marked) == 4
    assert marked.tolist() == [False, True, False, False]
    assert (case.units == 1).sum() > 1  # several tokens


def test_only_the_first_of_two_texts_is_marked_and_what_is_cut_off_is_not() -> None:
    subject = Subject(zoo.explainer("bert", max_length=6))
    document = Document(document_key("a good film", pair="dull"), "a good film", pair="dull")
    (pair,) = subject.cases([document])
    assert isinstance(pair, Case)
    marked = rationale([[0, 1]], pair)
    assert marked is not None
    assert marked.tolist() == [True, *[False] * (len(marked) - 1)]
    (long,) = cases(subject, [TEXT])
    assert long.encoded.truncated
    assert rationale([[32, 36]], long) is None


def marked_case(gold: list[int]) -> Case:
    (case,) = cases(Subject(zoo.explainer("bert")), [TEXT])
    return replace(case, rationale=np.array(gold, dtype=np.bool_))


def test_plausibility_is_what_was_worked_out_by_hand() -> None:
    case = marked_case([0, 0, 1, 1, 0, 0, 1, 0, 0])
    words = np.array([0.0, 1, 2, 9, 3, 0, 8, -9, 0])
    scores = np.concatenate([[50.0], words, [-50.0]])  # special tokens do not count
    values = plausibility(case, {"m": scores}, 3 / 9)
    # top 3: words 3, 6 and 4; two of them are right, of three
    assert at(values, metric="token_f1") == pytest.approx(2 / 3)
    # ranked 3 (right), 6 (right), 4, 2 (right): precision 1, 1, 3/4 at recall 1/3, 2/3, 1
    assert at(values, metric="auprc") == pytest.approx((1 + 1 + 3 / 4) / 3)
    # predicted spans [3, 5), [6, 7); gold [2, 4), [6, 7): IOU 1/3 and 1
    assert at(values, metric="iou_f1") == pytest.approx(1 / 2)
    assert {v.removal for v in values} == {None}


def test_an_iou_of_a_half_counts() -> None:
    gold = np.array([0, 1, 1, 0], dtype=np.bool_)
    assert iou_f1(np.array([0, 1, 0, 0], dtype=np.bool_), gold) == 1
    assert iou_f1(np.array([1, 1, 0, 0], dtype=np.bool_), gold) == 0


def test_a_words_score_is_the_sum_of_its_tokens() -> None:
    (case,) = cases(Subject(zoo.explainer("bert")), ["a brilliantly odd film"])
    case = replace(case, rationale=np.array([False, True, False, False]))
    scores = np.where(case.units == 1, 0.4, 0.0)
    scores[case.units == 3] = 0.9
    (value,) = [v for v in plausibility(case, {"m": scores}, 0.25) if v.metric == "token_f1"]
    assert value.value == 1
    assert 0.4 * (case.units == 1).sum() > 0.9


def test_no_rationale_no_value_and_no_finite_score_no_number() -> None:
    case = marked_case([0, 0, 1, 1, 0, 0, 1, 0, 0])
    scores = np.full(11, np.nan)
    assert all(np.isnan(v.value) for v in plausibility(case, {"m": scores}, 0.3))
    assert plausibility(replace(case, rationale=None), {"m": np.zeros(11)}, 0.3) == []


def test_the_share_is_the_mean_over_documents_that_have_a_rationale() -> None:
    case = marked_case([0, 0, 1, 1, 0, 0, 1, 0, 0])
    other = marked_case([1] * 9)
    assert rationale_share([case, other, replace(case, rationale=None)]) == pytest.approx((1 / 3 + 1) / 2)
    assert np.isnan(rationale_share([]))


@examples(100)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_numbers_are_scikit_learns(rows: list[tuple[int, bool, bool]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores = np.array([row[0] for row in rows], dtype=np.float64)
    gold, predicted = (np.array([row[place] for row in rows]) for place in (1, 2))
    gold[0] = True
    assert average_precision(scores, gold) == pytest.approx(metrics.average_precision_score(gold, scores))
    assert token_f1(predicted, gold) == pytest.approx(metrics.f1_score(gold, predicted))
