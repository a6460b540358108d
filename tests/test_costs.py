"""A tier over its budget is told with what grew, at the speed of the machine that the budget was recorded on."""

from __future__ import annotations

from typing import Any

from tests import costs

KNOWN: dict[str, Any] = {"budget": 100, "yardstick": 0.1, "cpu": 80.0, "files": {"a.py": 30.0, "b.py": 50.0}}


def figures(cpu: float, yardstick: float = 0.1, **files: float) -> dict[str, Any]:
    return {
        "cpu": cpu,
        "yardstick": yardstick,
        "files": {f"{name}.py": value for name, value in files.items()},
    }


def test_within_the_budget_nothing_is_said() -> None:
    assert costs._over_budget(figures(100, a=50, b=50), KNOWN) == ""


def test_over_the_budget_the_files_that_grew_are_named_the_largest_first() -> None:
    head, *lines = costs._over_budget(figures(140, a=35, b=50, c=55), KNOWN).splitlines()
    assert head == "140 s of CPU at the recorded speed, and the budget is 100 s. What grew:"
    assert [line.split() for line in lines] == [
        ["+55.0", "s", "of", "CPU", "c.py"],
        ["+5.0", "s", "of", "CPU", "a.py"],
    ]


def test_a_machine_that_is_twice_as_slow_may_take_twice_as_long() -> None:
    assert costs._over_budget(figures(180, yardstick=0.2, a=90, b=90), KNOWN) == ""
    assert costs._over_budget(figures(220, yardstick=0.2, a=90, b=130), KNOWN).startswith("110 s of CPU")


def test_a_faster_machine_has_the_same_budget() -> None:
    assert costs._over_budget(figures(95, yardstick=0.05, a=45, b=50), KNOWN) == ""


def test_the_yardstick_takes_cpu_time() -> None:
    assert 0.005 < costs.yardstick() < 5
