"""What a plan says that the gates could not see."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from calig.config import parse_config
from calig.planning import sensitivity
from calig.planning.sensitivity import unseen
from calig.warehouse.layout import Warehouse
from calig.workers import ModelCard


def plan(
    documents: int, gates: dict[str, Any], warehouse: Path, head: str = "single_label"
) -> tuple[str, ...]:
    config = parse_config(
        {
            "model": {"id": "m"},
            "corpus": {"path": "c.csv"},
            "compare_to": "previous",
            "gates": gates,
            "warehouse": str(warehouse),
        }
    )
    model = ModelCard("m", None, "h", ("a", "b"), 3, head, "text")  # type: ignore[arg-type]
    return unseen(Warehouse.open(warehouse), config, model, documents)


def test_more_documents_and_more_alarms_let_smaller_changes_be_seen(tmp_path: Path) -> None:
    points = {
        (documents, rate): [
            float(number)
            for number in re.fullmatch(
                r"drift: a change of accuracy below (\d+) points, of a measure of the layer profile below ([\d.]+) "
                r"standard deviations",
                *plan(documents, {"drift": True, "false_alarms_per_year": rate}, tmp_path),
            ).groups()  # type: ignore[union-attr]
        ]
        for documents in (60, 400)
        for rate in (1, 36.5)
    }
    for place in (0, 1):
        assert points[60, 1][place] > points[60, 36.5][place] > points[400, 36.5][place]
        assert points[400, 1][place] > points[400, 36.5][place]


def test_chance_alone_is_named_where_it_reaches_beyond_the_limit(tmp_path: Path) -> None:
    gates = {"max_class_psi": 0.25, "max_layer_psi": 0.25}
    few, many = plan(60, gates, tmp_path), plan(600, gates, tmp_path)
    assert [line.partition(":")[0] for line in few] == ["max_class_psi", "max_layer_psi"]
    assert "chance alone reaches" in few[1]
    assert "chance" not in "".join(many)
    smallest = [float(re.search(r"below ([\d.]+)", lines[1])[1]) for lines in (few, many)]  # type: ignore[index]
    assert smallest[0] > 2 * smallest[1] > 0.5
    assert plan(3, {"max_layer_psi": 0.25}, tmp_path) == ("max_layer_psi: anything, with so few documents",)


def test_chance_among_many_documents_is_scaled_from_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(documents: int) -> float:
        [line] = plan(documents, {"max_class_psi": 0}, tmp_path)
        return float(re.search(r"chance alone reaches ([\d.e-]+)", line)[1])  # type: ignore[index]

    scaled = reached(30_000)
    assert reached(10_000) == pytest.approx(3 * scaled, rel=0.1)
    assert reached(30_000_000) == pytest.approx(scaled / 1000, rel=0.1)
    monkeypatch.setattr(sensitivity, "DRAWN", 30_000)
    assert reached(30_000) == pytest.approx(scaled, rel=0.3)


@pytest.mark.parametrize(
    ("gates", "head", "said"),
    [
        ({}, "single_label", []),
        ({"min_accuracy": 0.9}, "single_label", []),
        ({"drift": {"what": ["words"]}}, "single_label", []),
        ({"drift": True, "max_class_psi": 0.1}, "regression", ["drift: a change of a measure"]),
    ],
)
def test_only_gates_that_allow_for_chance_are_spoken_of(
    gates: dict[str, Any], head: str, said: list[str], tmp_path: Path
) -> None:
    found = plan(60, gates, tmp_path, head)
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True))
