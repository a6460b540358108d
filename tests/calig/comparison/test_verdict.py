"""One sentence says which way an outcome or a layer moved, and what comes first."""

from __future__ import annotations

from typing import Any

import pytest

from calig.comparison.verdict import verdict

NO_WORDS: dict[str, list[Any]] = {"changed": []}


def outcome(measure: str, a: float, b: float, name: str = "*", q: float = 0.01) -> dict[str, Any]:
    return {"measure": measure, "class": name, "a": a, "b": b, "q": q, "changed": True}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (outcome("accuracy", 0.8, 0.9), "accuracy rose from 80 % to 90 %"),
        (outcome("accuracy", 0.9, 0.8), "accuracy fell from 90 % to 80 %"),
        (outcome("probability", 0.5, 0.75, "spam"), "the mean probability of spam rose from 0.5 to 0.75"),
        (outcome("error", 120000.4, 99999.4), "the mean error fell from 120000.4 to 99999.4"),
        (outcome("predicted share", 0.2, 0.3, "spam"), "50 % more documents are predicted spam"),
        (outcome("predicted share", 0.3, 0.15, "spam"), "50 % fewer documents are predicted spam"),
        (outcome("labelled share", 0, 0.15, "spam"), "15 % of documents are labelled spam, there were none"),
    ],
)
def test_an_outcome_says_which_way_it_moved(row: dict[str, Any], sentence: str) -> None:
    assert verdict([row], [], NO_WORDS, []) == sentence


@pytest.mark.parametrize(("a", "b", "way"), [(0.1, 0.2, "rose"), (0.2, 0.1, "fell")])
def test_a_layer_says_which_way_it_moved(a: float, b: float, way: str) -> None:
    row = {"measure": "special_share", "class": "*", "depth": 3, "a": a, "b": b, "size": 0.5, "changed": True}
    assert verdict([], [row], NO_WORDS, []) == f"special share at depth 3 {way} from {a} to {b}"


def test_accuracy_is_told_before_layers_and_the_rest_is_counted() -> None:
    layer = {
        "measure": "special_share",
        "class": "*",
        "depth": 3,
        "a": 0.1,
        "b": 0.2,
        "size": 9.0,
        "changed": True,
    }
    said = verdict([outcome("accuracy", 0.9, 0.8)], [layer], NO_WORDS, ["2 documents were left out"])
    assert said == "accuracy fell from 90 % to 80 %; 1 more change; 2 documents were left out"
    assert verdict([], [], NO_WORDS, []) == "nothing changed"
