"""Simulated nights: quiet ones stay quiet, and planted changes are found."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.calig.comparison import simulated
from tests.calig.comparison.simulated import compared, night, rows
from tests.material.tiers import extended

QUIET = 200


@extended("200 pairs of nights")
def test_quiet_nights_raise_no_more_alarms_than_stated() -> None:
    alpha = 0.05
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(QUIET):
        a, b = (night(rng, documents=250, words=100) for _ in range(2))
        row = compared(a, b, alpha=alpha, min_effect=0, min_share=0, min_size=0)["comparisons"]
        assert row["words_tested"][0] > 100
        assert row["layers_tested"][0] == 2 * 18
        alarms += row["changed"][0]
    assert alarms / QUIET <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / QUIET)


def test_a_quiet_night_says_so() -> None:
    rng = np.random.default_rng(5)
    row = compared(night(rng), night(rng))["comparisons"]
    assert row["changed"] == [False]
    assert row["verdict"][0].startswith("no change found")
    assert row["paired"] == [0]


def test_a_new_word_is_found_among_hundreds() -> None:
    """In 15 of 400 documents, all of one class, against none: the issue's leaked word."""
    rng = np.random.default_rng(0)
    a, b = night(rng, words=300), night(rng, words=300)
    leaked = np.flatnonzero(b.predicted == 1)[:15]
    for one in (a, b):
        one.held[:, 299] = False
    b.held[leaked, 299] = True
    found = compared(a, b)
    row = found["comparisons"]
    assert row["verdict"] == ["'w299' is new: in 15 of 400 documents"]
    assert row["words_changed"] == [1]
    words = [word for word in rows(found["words"]) if word["changed"]]
    assert {word["word"] for word in words} == {"w299"}
    assert all(word["change"] == "new" and word["documents_a"] == 0 for word in words)
    everywhere = next(word for word in words if word["class"] == "*")
    assert (everywhere["documents_b"], everywhere["share_a"], everywhere["share_b"]) == (15, 0, 15 / 400)
    assert math.isnan(everywhere["effect_a"])
    assert math.isnan(everywhere["difference"])
    assert row["words_tested"][0] > 400


def test_a_word_that_is_gone_from_both_classes_is_gone_from_each() -> None:
    rng = np.random.default_rng(7)
    a, b = night(rng), night(rng)
    for one, often in ((a, 0.15), (b, 0)):
        one.held[:, 50] = rng.random(400) < often
    words = [word for word in rows(compared(a, b)["words"]) if word["changed"]]
    assert [(word["word"], word["class"], word["change"]) for word in words] == [
        ("w50", name, "gone") for name in ("*", "negative", "positive")
    ]


def test_changed_effects_are_named_and_others_left_alone() -> None:
    rng = np.random.default_rng(1)
    a, b = night(rng), night(rng)
    positive = b.predicted == 1
    a.effects[:, 0] = rng.normal(0.4, 0.2, 400)
    b.effects[:, 0] = rng.normal(np.where(positive, -0.4, 0.4), 0.2)
    a.effects[:, 2] = rng.normal(0.3, 0.2, 400)
    b.effects[:, 2] = rng.normal(np.where(positive, 0.9, 0.3), 0.2)
    words = {(w["word"], w["class"]): w for w in rows(compared(a, b)["words"])}
    changed = {key: w["change"] for key, w in words.items() if w["changed"]}
    assert changed == {("w0", "positive"): "reversed", ("w2", "positive"): "stronger"}
    reversed_ = words["w0", "positive"]
    assert reversed_["sign_flip"]
    mine = (
        a.effects[(a.predicted == 1) & a.held[:, 0], 0].mean(),
        b.effects[positive & b.held[:, 0], 0].mean(),
    )
    assert reversed_["effect_a"] == pytest.approx(mine[0])
    assert reversed_["difference"] == pytest.approx(mine[1] - mine[0])
    assert reversed_["low"] < reversed_["difference"] < reversed_["high"] < 0
    assert math.isnan(words["w0", "*"]["p"])


def test_drifting_classes_are_the_verdict() -> None:
    rng = np.random.default_rng(2)
    a, b = night(rng), night(rng)
    a.predicted[:] = a.label[:] = np.arange(400) % 2
    b.predicted[:] = b.label[:] = np.arange(400) % 16 < 5
    row = compared(a, b)["comparisons"]
    assert row["verdict"][0].startswith(
        "the share of documents predicted negative rose by 19 points (between "
    )
    # 200 and 275 negative, 200 and 125 positive; half a document more in each, one degree of freedom off
    p, q = np.array([200.5, 200.5]) / 401, np.array([275.5, 125.5]) / 401
    assert row["class_psi"][0] == pytest.approx(((q - p) * np.log(q / p)).sum() - 2 / 400)


def test_paired_documents_find_what_two_samples_cannot() -> None:
    rng = np.random.default_rng(4)
    a = night(rng)
    b = night(rng)
    b.predicted, b.label, b.held = a.predicted, a.label, a.held
    b.effects = a.effects.copy()
    b.measures = a.measures.copy()
    b.probability = a.probability.copy()
    same = compared(a, b, paired=True)
    assert same["comparisons"]["verdict"] == ["nothing changed"]
    assert same["comparisons"]["words_tested"][0] > 100
    tested = [row for row in rows(same["words"]) + rows(same["layers"]) if row["p"] == 1]
    assert len(tested) > 100
    assert {row["state"] for row in tested} == {"no change"}
    b.effects[:, 1] += 0.03 + rng.normal(0, 0.02, 400)
    b.measures[:, 1, 2] += 0.3
    found = compared(a, b, paired=True, min_size=0.1, min_effect=0.02)
    assert {(w["word"], w["change"]) for w in rows(found["words"]) if w["changed"]} == {
        ("w1", "stronger"),
    }
    layers = [r for r in rows(found["layers"]) if r["changed"]]
    assert {(r["depth"], r["measure"]) for r in layers} == {(1, "special_share")}
    assert next(r for r in layers if r["class"] == "*")["difference"] == pytest.approx(0.3)
    two = compared(a, b, min_size=0.1, min_effect=0.02)
    assert not any(w["changed"] for w in rows(two["words"]))


def test_flips_of_paired_documents_are_counted_by_word() -> None:
    rng = np.random.default_rng(6)
    a = night(rng, documents=100, words=20)
    b = night(rng, documents=100, words=20)
    b.predicted, b.label, b.held, b.effects = a.predicted, a.label, a.held, a.effects.copy()
    holding = np.flatnonzero(a.held[:, 0])
    b.effects[holding, 0] += 2
    found = compared(a, b, paired=True)
    documents = rows(found["documents"])
    assert len(documents) == 100
    for i in holding:
        assert (documents[i]["word"], documents[i]["word_change"]) == ("w0", pytest.approx(2))
    assert found["comparisons"]["flips"] == [0]
    assert sum(w["flips"] for w in rows(found["words"])) == 0


def test_documents_drawn_by_label_are_exchanged_within_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight in ten labelled positive, then two in ten: that is how they were drawn, and no drift of the classes."""
    rng = np.random.default_rng(11)
    a, b = (
        replace(
            one,
            label=one.predicted,
            predicted=np.where(rng.random(400) < 0.9, one.predicted, 1 - one.predicted),
        )
        for one in (night(rng, positive=0.8), night(rng, positive=0.2))
    )
    as_they_come = compared(a, b)["comparisons"]
    made = simulated.manifest
    by_label = {"corpus": {"label": "label", "sample": {"documents": 400, "by": "label"}}}
    monkeypatch.setattr(simulated, "manifest", lambda run_id: replace(made(run_id), config=by_label))
    drawn = compared(a, b)["comparisons"]
    assert drawn["class_psi"] == as_they_come["class_psi"]
    assert as_they_come["class_psi_p"][0] < 0.01 < 0.05 < drawn["class_psi_p"][0]
