"""What a pilot teaches, and what makes two schedules the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from calig.attribution.climbing import Samples, climb
from calig.attribution.heads import pilot_target
from calig.attribution.quadrature import Float64, Mesh, Rule, rule
from calig.attribution.schedule import Schedule, learn
from calig.records import Document, document_key
from tests.material import zoo

MESH = Mesh(486)
TOLERANCE = 1e-2


def pilot(width: float, count: int = 24, hidden: float = 0.0) -> list[Samples]:
    """Documents with one bump each, here and there, sampled finely; `hidden` of it cancels between two tokens."""
    found = []
    for i in range(count):
        centre = 0.3 + 0.4 * i / count

        def path(a: float, centre: float = centre) -> tuple[Float64, float]:
            steep = np.exp(-(((a - centre) / width) ** 2))
            grid = np.linspace(0, a, 400)
            risen = float(np.trapezoid(np.exp(-(((grid - centre) / width) ** 2)), grid))
            return np.array([steep + hidden * steep, 0.3 - hidden * steep]), risen + 0.3 * a

        def evaluate(
            rows: list[tuple[int, float]], path: object = path
        ) -> tuple[list[Float64], Float64, list[Float64]]:
            values = [path(a) for _, a in rows]  # type: ignore[operator]
            return [v for v, _ in values], np.array([f for _, f in values]), [np.empty(0)] * len(rows)

        samples = Samples(path(0.0), path(1.0))
        climb(MESH, 24, 1.5, [samples], evaluate, TOLERANCE / 10)
        found.append(samples)
    return found


def test_json_gives_the_same_schedule_back() -> None:
    learnt = learn(MESH, [pilot(0.2), pilot(0.1)], TOLERANCE, 0.123)
    assert Schedule.from_json(learnt.to_json()) == learnt
    default = Schedule.default(MESH, 3)
    assert Schedule.from_json(default.to_json()) == default


@pytest.mark.parametrize(
    "damaged",
    ["", "{", "[]", "{}", '{"starts": 3}', Schedule.default(MESH, 2).to_json().replace("starts", "start")],
)
def test_damaged_json_is_refused(damaged: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Schedule.from_json(damaged)


def test_the_key_is_that_of_what_changes_numbers() -> None:
    schedule = Schedule.default(MESH, 2)
    assert schedule.key == replace(schedule, seconds_per_document=3.5).key
    changed = [replace(schedule, starts=(12, 12, 8)), replace(schedule, factors=(1.5, 1.5, 2.0))]
    assert len({schedule.key, *(other.key for other in changed)}) == 3


def test_narrow_bumps_ask_for_a_finer_start_than_wide_ones() -> None:
    wide, narrow = learn(MESH, [pilot(0.5), pilot(0.08)], TOLERANCE, 1.0).starts
    assert wide < narrow


def test_errors_that_the_defects_do_not_show_raise_the_factor() -> None:
    """Where contributions cancel, f hardly tells of them, and a pilot document would be accepted wrongly."""
    plain, hidden = learn(MESH, [pilot(0.15), pilot(0.15, hidden=6.0)], TOLERANCE, 1.0).factors
    assert plain == 1.5
    assert hidden > plain


@pytest.mark.parametrize("name", ["auto", "trapezoid", "midpoint", "gauss-kronrod", "gauss-legendre"])
def test_a_learnt_schedule_accepts_only_pilot_documents_within_the_tolerance(name: str) -> None:
    kind: Rule = rule(name, 486)
    documents = pilot(0.1, hidden=2.0)
    learnt = learn(kind, [documents, documents], TOLERANCE, 1.0)
    for samples in documents:
        fine = samples.nodes
        values, outputs = samples.at(fine)
        reference = np.trapezoid(values, fine, axis=0)

        def evaluate(
            rows: list[tuple[int, float]],
            fine: Float64 = fine,
            values: Float64 = values,
            outputs: Float64 = outputs,
        ) -> tuple[list[Float64], Float64, list[Float64]]:
            nodes = [a for _, a in rows]
            columns = [np.interp(nodes, fine, column) for column in values.T]
            given = np.stack(columns, axis=1)
            return list(given), np.interp(nodes, fine, outputs), [np.empty(0)] * len(rows)

        ends = Samples((values[0], float(outputs[0])), (values[-1], float(outputs[-1])))
        (found,) = climb(kind, learnt.starts[0], learnt.factors[0], [ends], evaluate, TOLERANCE)
        error = np.linalg.norm(found.verdict.integral - reference) / np.linalg.norm(reference)
        assert not found.converged or error < 3 * TOLERANCE


def test_a_pilot_climbs_and_its_schedule_is_used() -> None:
    texts = [f"{a} {b} film" for a in zoo.WORDS[:6] for b in zoo.WORDS[:4]]
    explainer = zoo.explainer("electra")
    learnt = explainer.pilot([Document(document_key(text), text) for text in texts])
    assert learnt.seconds_per_document is not None
    assert learnt.seconds_per_document > 0
    assert len(learnt.starts) == len(learnt.factors) == zoo.BLOCKS + 1
    assert learnt.key != explainer.schedule.key
    again = explainer.pilot([Document(document_key(text), text) for text in reversed(texts)])
    assert again.key == learnt.key, "neither order nor time matters"


def test_a_pilot_serves_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It draws over several, whatever is asked for, by the documents' keys alone."""
    documents = zoo.documents([f"{a} {b} film" for a in zoo.WORDS[:4] for b in zoo.WORDS[:3]])
    learnt = {zoo.explainer("bert", target=target).pilot(documents).key for target in ("predicted", 1)}
    assert len(learnt) == 1
    many = [Document(str(number)) for number in range(4000)]
    drawn = Counter(pilot_target(document, "single_label", ("a", "b", "c")) for document in many)
    expected = {"predicted": 2000, "runner-up": 1000, 0: 333, 1: 333, 2: 333}
    assert all(abs(drawn[target] - count) < 5 * count**0.5 for target, count in expected.items())
    assert set(drawn) == set(expected)
    assert {pilot_target(document, "regression", ("x", "y")) for document in many} == {0, 1}


def test_with_fixed_steps_a_pilot_only_takes_the_time() -> None:
    explainer = zoo.explainer("bert", steps=6)
    found = explainer.pilot([Document(document_key(text), text) for text in zoo.TEXTS])
    assert found.key == explainer.schedule.key
    assert found.seconds_per_document
