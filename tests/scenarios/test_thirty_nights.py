"""Thirty nights with three planted changes: each is reported when it should be, and nothing before the first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from calig.config import parse_config
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import set_tag
from tests.material.nights import LEAK, LEAKS_FROM, NIGHTS, RETRAINED, audit_night, train, write_night
from tests.material.tiers import extended
from tests.material.tiny import select

pytestmark = extended("two trainings and thirty audits of 400 documents")


@dataclass(frozen=True, slots=True)
class Night:
    """What a night's gates say: name → whether it holds, and the words of those that fail."""

    run_id: str
    passed: dict[str, bool | None]
    details: str


@dataclass(frozen=True, slots=True)
class History:
    """The nights, from 1, in a warehouse."""

    warehouse: Path
    nights: dict[int, Night]

    def failing(self, gate: str) -> list[int]:
        """Nights in which a gate does not hold."""
        return [number for number, night in self.nights.items() if night.passed.get(gate) is False]


GATES: dict[str, Any] = {
    "false_alarms_per_year": 18.25,  # 5 % a night: with one a year the leak, in 10 of 400 documents, is seen later
    "drift": {"what": ["outcomes"]},
    "sql": [
        {"name": "no-new-word", "sql": "SELECT word FROM comparison_words WHERE change = 'new'"},
        {
            "name": "same-reading",
            "sql": "SELECT word FROM comparison_words WHERE change IN ('stronger', 'weaker', 'reversed')",
        },
        {"name": "same-model", "sql": "FROM comparisons WHERE NOT same_model"},
    ],
}


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    root = tmp_path_factory.mktemp("nights")
    models = {leaking: train(1 + leaking, leaking) for leaking in (False, True)}
    nights: dict[int, Night] = {}
    for number in range(1, NIGHTS + 1):
        config = parse_config(
            {
                "name": "nightly",
                "model": {"id": str(models[number >= RETRAINED])},
                "corpus": {"path": str(write_night(root, number)), "label": "label", "id": "id"},
                "method": {"tolerance": 0.05},
                "runtime": {"threads": 1},
                "warehouse": str(root / "warehouse"),
                "compare_to": [] if number == 1 else ["baseline"],
                "watch": {"leaks": [LEAK]},
                "gates": GATES if number > 1 else {},
            }
        )
        run_id, outcomes = audit_night(config)
        if number == 1:
            set_tag(Warehouse.open(root / "warehouse"), run_id, "baseline")
        nights[number] = Night(
            run_id,
            {outcome.gate: outcome.passed for outcome in outcomes},
            "\n".join(outcome.line for outcome in outcomes if outcome.passed is False),
        )
    return History(root / "warehouse", nights)


def test_the_drift_of_the_classes_is_seen_against_the_baseline(history: History) -> None:
    alarms = history.failing("drift")
    first = alarms[0]
    assert 5 <= first <= 10
    assert alarms == list(range(first, NIGHTS + 1)), "and every night from then on"
    assert "predicted share of" in history.nights[10].details


def test_a_word_that_leaks_the_label_is_reported_the_very_night(history: History) -> None:
    assert history.failing("no-new-word") == list(range(LEAKS_FROM, NIGHTS + 1))
    found = select(
        history.warehouse,
        f"SELECT DISTINCT word FROM comparison_words WHERE change = 'new' AND documents_b > 10 AND word = '{LEAK}'",
        history.nights[LEAKS_FROM].run_id,
    )
    assert found == [(LEAK,)]


def test_a_retrained_model_is_reported_the_very_night(history: History) -> None:
    assert history.failing("same-model") == list(range(RETRAINED, NIGHTS + 1))
    assert min(history.failing("same-reading")) == RETRAINED, (
        "it reads words otherwise, and the old one never did"
    )


def test_the_watch_list_follows_the_leak(history: History) -> None:
    shares = {
        number: select(
            history.warehouse,
            f"SELECT documents, share FROM watched WHERE term = '{LEAK}' AND class = '*'",
            night.run_id,
        )[0]
        for number, night in history.nights.items()
    }
    assert all(shares[number] == (0, 0) for number in range(1, LEAKS_FROM))
    assert all(shares[number][0] > 10 and shares[number][1] > 0 for number in range(LEAKS_FROM, NIGHTS + 1))


def test_the_pages_are_small(history: History) -> None:
    pages = list(history.warehouse.rglob("index.html"))
    assert any("comparisons" in page.parts for page in pages)
    assert (history.warehouse / "history" / "nightly" / "index.html") in pages
    assert max(page.stat().st_size for page in pages) < 5_000_000
