"""What a pilot teaches, and what makes two schedules the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from calig.attribution.schedule import Climb, Schedule, learn
from calig.records import Document, document_key
from tests.calig import zoo

PRIOR = Schedule.default("auto", 2, 486)
TOLERANCE = 1e-2


def climbs(count: int, *differences: float, depth: int = 1) -> list[Climb]:
    return [Climb(depth, differences)] * count


def test_json_gives_the_same_schedule_back() -> None:
    learnt = learn(PRIOR, climbs(30, 0.1, 0.013, 0.001), TOLERANCE, 0.123)
    assert Schedule.from_json(learnt.to_json()) == learnt
    assert Schedule.from_json(PRIOR.to_json()) == PRIOR


@pytest.mark.parametrize(
    "damaged", ["", "{", "[]", "{}", '{"rules": 3}', PRIOR.to_json().replace("rules", "rule")]
)
def test_what_is_no_schedule_is_told(damaged: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Schedule.from_json(damaged)


def test_the_key_is_that_of_what_changes_numbers() -> None:
    assert PRIOR.key == replace(PRIOR, seconds_per_document=3.5).key
    changed = [
        replace(PRIOR, rules=("midpoint",) * 3),
        replace(PRIOR, first=(1, 1, 2)),
        replace(PRIOR, factors=(*PRIOR.factors[:2], tuple(2 * f for f in PRIOR.factors[2]))),
    ]
    assert len({PRIOR.key, *(schedule.key for schedule in changed)}) == 4


def test_no_pilot_document_is_accepted_with_an_error_above_its_estimate() -> None:
    """Rung 1's error is very nearly its difference to rung 2, and is estimated from that to rung 0."""
    seen = [*climbs(29, 0.1, 0.01), *climbs(1, 0.1, 0.02)]
    taught = learn(PRIOR, seen, 0.05, 1.0)
    assert taught.factors[1][1] == pytest.approx(1.5 * 0.02 / 0.1), (
        "accepted at 0.05: its error bounds the factor"
    )
    rejecting = learn(PRIOR, seen, TOLERANCE, 1.0).factors[1][1]
    assert rejecting == pytest.approx(1.5 * TOLERANCE / 0.1), (
        "not to be accepted at 0.01: rejecting it is enough"
    )
    assert rejecting * 0.1 > TOLERANCE
    assert taught.factors[1][2:] == PRIOR.factors[1][2:]
    assert taught.factors[0] == PRIOR.factors[0]
    assert taught.factors[2] == PRIOR.factors[2]
    assert taught.seconds_per_document == 1.0
    assert (taught.rules, taught.first) == (PRIOR.rules, PRIOR.first)


def test_every_rung_learns_from_its_own_pair() -> None:
    taught = learn(PRIOR, climbs(24, 0.5, 0.1, 0.03, 0.012), 0.9, 1.0).factors[1]
    assert taught[1:4] == pytest.approx([1.5 * 0.2, 1.5 * 0.3, 1.5 * 0.4])


def test_a_rung_that_few_climbed_past_keeps_its_factor() -> None:
    assert learn(PRIOR, climbs(23, 0.1, 0.09), TOLERANCE, 1.0).factors == PRIOR.factors
    assert learn(PRIOR, climbs(100, 0.1), TOLERANCE, 1.0).factors == PRIOR.factors


def test_errors_far_below_the_tolerance_ask_for_nothing_and_no_factor_is_below_a_hundredth() -> None:
    for far_below in (climbs(100, 1e-6, 1e-6), climbs(100, 0.1, 1e-6)):
        assert learn(PRIOR, far_below, TOLERANCE, 1.0).factors[1][1] == 0.01


def test_frozen_puts_every_document_on_one_rung_at_once() -> None:
    assert PRIOR.frozen(3).first == (3, 3, 3)
    (a,) = zoo.explainer("bert", frozen=3).explain(["a good film"])
    assert a.nodes.tolist() == [54, 15, 15, 15]
    (a,) = zoo.explainer("bert", frozen=2, rule="midpoint").explain(["a good film"])
    assert a.nodes.tolist() == [18] * 4


def test_a_pilot_climbs_and_its_schedule_is_used() -> None:
    texts = [f"{a} {b} film" for a in zoo.WORDS[:8] for b in zoo.WORDS[:6]]
    explainer = zoo.explainer("electra", tolerance=1e-3)
    learnt = explainer.pilot([Document(document_key(text), text) for text in texts])
    assert learnt.seconds_per_document is not None
    assert learnt.seconds_per_document > 0
    assert learnt.rules == explainer.schedule.rules
    assert learnt.factors != explainer.schedule.factors
    assert all(len(a) == len(b) for a, b in zip(learnt.factors, explainer.schedule.factors, strict=True))
    again = explainer.pilot([Document(document_key(text), text) for text in reversed(texts)])
    assert again.key == learnt.key, "neither order nor time matters"
