"""How the false alarms of a year become levels."""

from __future__ import annotations

from typing import Any

import pytest

from calig.config import AuditConfig, parse_config
from calig.config.levels import levels_of
from calig.errors import InputError


def audit(gates: dict[str, Any], *references: str) -> AuditConfig:
    return parse_config(
        {"model": {"id": "m"}, "corpus": {"path": "c.csv"}, "compare_to": list(references), "gates": gates}
    )


@pytest.mark.parametrize(
    ("gates", "references", "parts"),
    [
        ({}, ["previous"], 1),
        ({"drift": True}, ["previous"], 1),
        ({"drift": True, "max_layer_psi": 0.25}, ["previous"], 2),
        ({"max_layer_psi": 0.25, "max_class_psi": 0.1, "slow_drift": True}, ["previous", "pinned"], 4),
        ({"slow_drift": True}, [], 1),
        ({"min_accuracy": 0.9, "max_accuracy_drop": 0.1}, ["previous"], 1),
    ],
)
def test_the_parts_together_are_wrong_as_often_as_the_run_may_be(
    gates: dict[str, Any], references: list[str], parts: int
) -> None:
    """The comparisons, each PSI gate and slow_drift are parts; limits without chance are none."""
    config = audit({"false_alarms_per_year": 2, "runs_per_year": 50, **gates}, *references)
    levels = levels_of(config)
    assert config.gates.night_level == 0.04
    psi = sum(name.endswith("psi") for name in gates)
    total = (
        len(references) * (levels.comparison + psi * levels.psi) + ("slow_drift" in gates) * levels.slow_drift
    )
    assert total == pytest.approx(0.04)
    assert levels.slow_drift == pytest.approx(0.04 / parts)


def test_one_a_year_of_a_run_a_night_is_the_default() -> None:
    assert audit({}, "previous").gates.night_level == 1 / 365


def test_more_alarms_than_runs_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"gates.false_alarms_per_year: 60 of 52 runs a year would be alarms"
    ):
        audit({"false_alarms_per_year": 60, "runs_per_year": 52})
