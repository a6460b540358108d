"""One sentence says what matters most: what is told first, which way it moved, by how much, and what was not tested."""

from __future__ import annotations

import math
from typing import Any

import pytest

from calig.comparison.counts import distinct
from calig.comparison.verdict import verdict

NO_WORDS: dict[str, list[Any]] = {"changed": []}
TESTED = {f"{family}_tested": 9 for family in ("words", "layers", "outcomes")}
ALL_TESTED = TESTED | {f"{family}_untested": 0 for family in ("words", "layers", "outcomes")}


def outcome(measure: str, a: float, b: float, name: str = "*", **more: Any) -> dict[str, Any]:
    half = abs(b - a) / 5
    return {
        "measure": measure,
        "class": name,
        "a": a,
        "b": b,
        "difference": b - a,
        "size": b - a,
        "low": b - a - half,
        "high": b - a + half,
        "changed": True,
        **more,
    }


def layer(a: float = 0.1, b: float = 0.2, **more: Any) -> dict[str, Any]:
    return outcome("special_share", a, b, depth=3, **more)


def words(*rows: dict[str, Any]) -> dict[str, list[Any]]:
    plain = {
        "class": "*",
        "of_a": 40,
        "of_b": 40,
        "documents_a": 8,
        "documents_b": 8,
        "share_a": 0.2,
        "share_b": 0.2,
    }
    plain |= {
        "effect_a": 0.5,
        "effect_b": -0.1,
        "difference": -0.6,
        "low": -0.8,
        "high": -0.4,
        "changed": True,
    }
    full = [plain | row for row in rows]
    return {name: [row[name] for row in full] for name in full[0]}


def counted(**counts: Any) -> dict[str, Any]:
    return TESTED | {f"{family}_changed": count for family, count in counts.items()}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (outcome("accuracy", 0.87, 0.72), "accuracy fell by 15 points (between 12 and 18) to 72 %"),
        (outcome("accuracy", 0.8, 0.81), "accuracy rose by 1 point (between 0.8 and 1.2) to 81 %"),
        (
            outcome("accuracy", 0.99, 0.9999),
            "accuracy rose by 1 point (between 0.8 and 1.2) to more than 99.9 %",
        ),
        (
            outcome("accuracy", 0.9, 0.8, low=-0.21, high=0.01),
            "accuracy fell by 10 points (between 21 down and 1 up) to 80 %",
        ),
        (outcome("accuracy", 1.0, 0.0, low=math.nan, high=math.nan), "accuracy fell by 100 points to 0 %"),
        (
            outcome("probability", 0.5, 0.75, "spam"),
            "the mean probability of spam rose by 0.25 (between 0.2 and 0.3) to 0.75",
        ),
        (
            outcome("error", 120000.4, 99999.4),
            "the mean error fell by 20001 (between 16000.8 and 24001.2) to 99999.4",
        ),
        (
            outcome("predicted share", 0.2, 0.3, "spam"),
            "the share of documents predicted spam rose by 10 points (between 8 and 12) to 30 %",
        ),
        (
            outcome("labelled share", 0, 0.001, "spam"),
            "the share of documents labelled spam rose by 0.1 points (between 0.08 and 0.1) to 0.1 %",
        ),
    ],
)
def test_an_outcome_says_which_way_it_moved(row: dict[str, Any], sentence: str) -> None:
    assert verdict([row], [], NO_WORDS, counted(outcomes=1), []) == sentence


@pytest.mark.parametrize(("a", "b", "way"), [(0.1, 0.2, "rose"), (0.2, 0.1, "fell")])
def test_a_layer_says_which_way_it_moved(a: float, b: float, way: str) -> None:
    said = f"special share at depth 3 {way} by 0.1 (between 0.08 and 0.12) to {b}"
    assert verdict([], [layer(a, b)], NO_WORDS, counted(layers=1), []) == said


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"change": "new", "documents_b": 20}, "'t' is new: in 20 of 40 documents"),
        ({"change": "gone", "class": "c"}, "'t' is gone: it was in 8 of 40 c documents"),
        (
            {"change": "less frequent", "share_b": 0.1},
            "'t' is less frequent: in 10 % of documents, it was in 20 %",
        ),
        (
            {"change": "reversed", "class": "c"},
            "'t' speaks the other way for c: its effect went from +0.50 to -0.10 logits (between 0.4 and 0.8)",
        ),
    ],
)
def test_a_word_says_what_became_of_it(change: dict[str, Any], sentence: str) -> None:
    assert verdict([], [], words({"word": "t"} | change), counted(words=1), []) == sentence


def test_outcomes_are_told_before_words_and_these_before_layers_and_all_are_counted() -> None:
    outcomes = [
        outcome("completeness error", 0.1, 0.9),
        outcome("predicted share", 0.5, 0.1, "spam"),
        outcome("accuracy", 0.9, 0.8),
    ]
    named = words({"word": "t", "change": "new"})
    row = counted(outcomes=3, words=1, layers=2) | {"flips": 4, "paired": 100}
    said = verdict(outcomes, [layer()], named, row, ["2 documents left out"])
    assert said == (
        "accuracy fell by 10 points (between 8 and 12) to 80 %; 4 of 100 predictions changed; "
        "changed in all: 3 outcomes, 1 word and 2 measures of the layer profile; 2 documents left out"
    )
    assert verdict(outcomes[:2], [layer()], named, row, []).startswith(
        "the share of documents predicted spam fell"
    )
    assert verdict(outcomes[:1], [layer()], named, row, []).startswith(
        "4 of 100 predictions changed; changed in all"
    )
    quiet = counted(outcomes=1, words=1, layers=1)
    assert verdict(outcomes[:1], [layer()], named, quiet, []).startswith("'t' is new")
    assert verdict(outcomes[:1], [layer()], NO_WORDS, quiet, []).startswith("special share at depth 3")


def test_the_large_is_told_before_the_small() -> None:
    named = words(
        {"word": "rare", "change": "new", "share_a": 0, "share_b": 0.03},
        {"word": "leak", "change": "new", "share_a": 0, "share_b": 0.2, "documents_b": 8},
        {"word": "common", "change": "more frequent", "share_b": 0.9},
    )
    assert verdict([], [], named, counted(words=3), []).startswith("'leak' is new: in 8 of 40")
    outcomes = [outcome("predicted share", 0.5, 0.6, "a"), outcome("predicted share", 0.5, 0.2, "b")]
    assert "predicted b fell" in verdict(outcomes, [], NO_WORDS, counted(outcomes=1), [])


def test_flipped_predictions_are_told_where_no_test_came_out() -> None:
    row = ALL_TESTED | {"flips": 4, "paired": 100, "words_untested": 7}
    accuracy = outcome("accuracy", 0.82, 0.8, changed=False, state="cannot tell", low=-0.06, high=0.02)
    assert verdict([accuracy], [], NO_WORDS, row, []) == (
        "4 of 100 predictions changed; no other change found; too few documents to test 7 words"
    )
    quiet = row | {"flips": 0}
    assert verdict([accuracy], [], NO_WORDS, quiet, []) == (
        "no change found; accuracy went from 82 % to 80 %, which may be chance; too few documents to test 7 words"
    )


@pytest.mark.parametrize(("state", "told"), [("cannot tell", True), (None, True), ("no change", False)])
def test_a_fall_of_accuracy_that_may_be_chance_is_told_before_words(state: str | None, told: bool) -> None:
    accuracy = outcome("accuracy", 0.8, 0.63, changed=False, state=state, low=-0.29, high=-0.04)
    named = words({"word": "awful", "change": "new", "documents_b": 21})
    said = verdict([accuracy], [], named, counted(words=5), [])
    fell = "accuracy fell by 17 points (between 4 and 29) to 63 %, which may be chance; " if told else ""
    assert said == f"{fell}'awful' is new: in 21 of 40 documents; changed in all: 5 words"


@pytest.mark.parametrize(
    ("row", "state", "said"),
    [
        ({"same": True}, "cannot tell", "nothing changed"),
        (ALL_TESTED, "no change", "nothing changed"),
        (ALL_TESTED, "cannot tell", "no change found"),
        (TESTED, "no change", "no change found"),  # of before it was known what was not tested
        (
            ALL_TESTED | {"words_untested": 1, "layers_untested": 12},
            "no change",
            "no change found; too few documents to test 1 word and 12 measures of the layer profile",
        ),
        (
            {"documents_a": 1000, "documents_b": 1, "words_untested": 30, "layers_untested": 12},
            "not tested",
            "cannot tell whether anything changed: nothing could be tested, the runs have 1,000 and 1 documents",
        ),
    ],
)
def test_nothing_changed_is_said_only_where_that_is_known(row: dict[str, Any], state: str, said: str) -> None:
    rows = [layer(0.1, 0.1, changed=False, state=state)]
    assert verdict([], rows, NO_WORDS, row, []) == said


def test_a_thing_counts_once_whatever_the_number_of_classes() -> None:
    table = {
        "class": ["*", "a", "b"],
        "word": ["t", "t", "u"],
        "measure": ["x", "x", "x"],
        "depth": [1, 1, 2],
    }
    counts = [distinct(table, family, [True, True, False]) for family in ("words", "layers", "outcomes")]
    assert counts == [1, 1, 1]
    counts = [distinct(table, family, [True, True, True]) for family in ("words", "layers", "outcomes")]
    assert counts == [2, 2, 1]
    assert distinct({}, "words", ()) == 0
