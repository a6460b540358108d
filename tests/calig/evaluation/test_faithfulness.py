"""Faithfulness of scores whose numbers can be worked out by hand, on a model that adds up its tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calig.evaluation.faithfulness import (
    CURVE_SHARES,
    ERASER_SHARES,
    SHARES,
    count,
    faithfulness,
    perturbation,
    ranked,
)
from calig.evaluation.outputs import log_probabilities
from calig.evaluation.published import as_published
from calig.evaluation.subject import Case, Subject
from calig.records import Document
from tests.calig.evaluation.planted import additive, at, cases
from tests.material import zoo
from tests.material.fuzz import examples

WEIGHTS = {
    "good": 3.0,
    "film": 0.5,
    "dull": -1.0,
    "a": 0.25,
    "the": -0.25,
    "not": 1.5,
    "great": 2.0,
    "[CLS]": 0.1,
}
TEXT = "a good film the dull"


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def scores_of(case: Case, weights: Mapping[str, float] = WEIGHTS) -> np.ndarray:
    return np.array([weights.get(token, 0.0) for token in case.encoded.tokens])


def test_faithfulness_is_what_was_worked_out_by_hand() -> None:
    subject = additive(WEIGHTS)
    (case,) = cases(
        subject, [TEXT]
    )  # [CLS] a good film the dull [SEP]: z = 0.1 + 0.25 + 3 + 0.5 − 0.25 − 1 = 2.6
    assert case.logits.tolist() == pytest.approx([0, 2.6])
    (values,) = faithfulness(subject, [case], [{"own": scores_of(case)}], ["delete"], (0.2, 0.4))
    facts = {"method": "own", "removal": "delete"}
    p = sigmoid(2.6)
    # 20 % of five are `good`; 40 % `good` and `film`
    without, only = [sigmoid(-0.4), sigmoid(-0.9)], [sigmoid(3.1), sigmoid(3.6)]
    for share, other, left in zip((0.2, 0.4), without, only, strict=True):
        assert at(values, metric="comprehensiveness", share=share, **facts) == pytest.approx(p - other)
        assert at(values, metric="sufficiency", share=share, **facts) == pytest.approx(p - left)
        assert at(values, metric="log_ratio", share=share, **facts) == pytest.approx(math.log(other / p))
    mean = p - sum(without) / 2
    assert at(values, metric="comprehensiveness", share=None, **facts) == pytest.approx(mean)
    assert at(values, metric="sufficiency", share=None, **facts) == pytest.approx(p - sum(only) / 2)
    # ERASER: 1, 5, 10 and 20 % are one token; 50 % of five, rounded half up, are three: `good`, `film`, `a`
    eraser = p - (4 * sigmoid(-0.4) + sigmoid(-1.15)) / 5
    assert at(values, metric="comprehensiveness_eraser", **facts) == pytest.approx(eraser)
    assert len(values) == 3 * 3 + 2


def test_the_top_share_is_rounded_half_up_and_at_least_one() -> None:
    assert [count(share, 5) for share in (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 1.0)] == [0, 1, 1, 2, 3, 4, 5]
    assert count(0.29, 50) == 15  # 14.499999999999998 in binary
    assert count(0.35, 10) == 4
    assert all(count(share, 1) == 1 for share in (*SHARES, *ERASER_SHARES))


def test_ties_are_ranked_by_position_and_special_tokens_not_at_all() -> None:
    content = np.array([False, True, True, True, False])
    assert ranked(np.array([9.0, 1.0, 2.0, 1.0, 9.0]), content).tolist() == [2, 1, 3]


def test_signed_scores_rank_what_speaks_against_the_class_last() -> None:
    subject = additive({"good": 1.0, "dull": -5.0}, target=1)
    (case,) = cases(subject, ["good dull film a"])
    (values,) = faithfulness(subject, [case], [{"m": scores_of(case, subject.weights)}], ["delete"], (0.25,))
    p = sigmoid(-4)
    found = at(values, metric="comprehensiveness", share=0.25)
    assert found == pytest.approx(p - sigmoid(-5))  # `good` is gone, not `dull`


@examples(25)
@given(st.lists(st.integers(0, 30), min_size=3, max_size=12), st.integers(0, 10**6))
def test_no_ranking_of_an_additive_model_beats_its_weights(words: list[int], seed: int) -> None:
    subject = ADDITIVE
    (case,) = cases(subject, [" ".join(zoo.WORDS[word % len(zoo.WORDS)] for word in words)])
    sign = 1 if case.target == 1 else -1
    best = sign * scores_of(case, subject.weights)
    rng = np.random.default_rng(seed)
    methods = {"best": best, **{f"other {i}": rng.normal(size=len(best)) for i in range(4)}}
    (values,) = faithfulness(subject, [case], [methods], ["delete"])
    for method in methods:
        for metric, better in (("comprehensiveness", 1), ("sufficiency", -1), ("log_ratio", -1)):
            top, other = (
                at(values, method=m, metric=metric, share=None, removal="delete") for m in ("best", method)
            )
            assert better * (top - other) >= -1e-12


ADDITIVE = additive({word: 1.7 * math.sin(3 * i + 1) for i, word in enumerate(zoo.WORDS)})


def test_what_several_methods_remove_is_run_once_and_changes_nothing() -> None:
    subject = additive(WEIGHTS)
    texts = [TEXT, "not great but good", TEXT.upper()]
    found = cases(subject, texts)
    scores = [
        {
            "own": (own := scores_of(case)),
            "twice": 2 * own,
            "other way": -own,
            "ranks": own.argsort().argsort(),
        }
        for case in found
    ]
    subject.answered.clear()
    together = faithfulness(subject, found, scores, ["delete"])
    run = sum(subject.answered)
    subject.answered.clear()
    for case, methods, values in zip(found, scores, together, strict=True):
        alone = [
            value
            for name, own in methods.items()
            for value in faithfulness(subject, [case], [{name: own}], ["delete"])[0]
        ]
        assert alone == values
    assert run < sum(subject.answered) / 2
    subject.answered.clear()
    faithfulness(subject, found, [{"own": one["own"]} for one in scores], ["delete"])
    faithfulness(subject, found, [{"own": one["other way"]} for one in scores], ["delete"])
    assert run <= sum(subject.answered)


def test_windows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = additive(WEIGHTS)
    found = cases(subject, zoo.TEXTS)
    scores = [{"own": scores_of(case)} for case in found]
    before = faithfulness(subject, found, scores, ["delete"])
    monkeypatch.setattr("calig.evaluation.faithfulness.WINDOW", 2)
    assert faithfulness(subject, found, scores, ["delete"]) == before
    assert len(before) == len(zoo.TEXTS)


def test_scores_that_are_not_finite_have_no_value() -> None:
    subject = additive(WEIGHTS)
    (case,) = cases(subject, [TEXT])
    broken = scores_of(case)
    broken[2] = np.nan
    (values,) = faithfulness(subject, [case], [{"broken": broken, "own": scores_of(case)}], ["delete"])
    assert all(math.isnan(v.value) for v in values if v.method == "broken")
    assert all(math.isfinite(v.value) for v in values if v.method == "own")
    assert len(values) == 2 * (3 * 6 + 2)


def test_a_log_ratio_is_finite_where_the_probability_is_not_above_zero() -> None:
    subject = additive({"good": 2000.0, "dull": -1000.0}, target=1)
    (case,) = cases(subject, ["good dull film a"])
    (values,) = faithfulness(subject, [case], [{"m": scores_of(case, subject.weights)}], ["delete"], (0.25,))
    assert at(values, metric="log_ratio", share=0.25) == pytest.approx(-1000)
    assert at(values, metric="comprehensiveness", share=0.25) == pytest.approx(1)


def test_probabilities_by_head() -> None:
    logits = np.array([[0.0, 1.5, -2.0]])
    exact = torch.from_numpy(logits)
    single = log_probabilities(logits, [1], "single_label")
    assert single == pytest.approx(exact.log_softmax(-1)[:, 1].numpy())
    assert log_probabilities(logits, [2], "multi_label") == pytest.approx(
        torch.sigmoid(exact[:, 2]).log().numpy()
    )
    assert log_probabilities(logits, [2], "regression") == pytest.approx([-2.0])
    assert log_probabilities(np.array([[0.0, 1.5]]), [1], "binary") == pytest.approx([math.log(sigmoid(1.5))])
    assert log_probabilities(np.array([[0.0, 1.5]]), [0], "binary") == pytest.approx(
        [math.log(sigmoid(-1.5))]
    )


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_changes_of_a_regression_are_over_the_standard_deviation(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    zoo.save(name, tmp_path, num_labels=1, problem_type="regression", id2label={0: "x"})
    from calig.models.loading import load_pretrained

    subject = Subject(zoo.explainer(name, pretrained=load_pretrained(str(tmp_path), dtype="float64")))
    found = cases(subject, zoo.TEXTS[:2])
    scores = [{"m": np.arange(len(case.encoded), dtype=np.float64)} for case in found]
    one, other = (faithfulness(subject, found, scores, ["delete", "pad"], spread=s) for s in (1.0, 4.0))
    assert subject.head == "regression"
    for ours, theirs in zip(one, other, strict=True):
        assert {v.metric for v in ours} == {
            f"{name}{end}" for name in ("comprehensiveness", "sufficiency") for end in ("", "_eraser")
        }
        assert [v.value for v in ours] == pytest.approx([4 * v.value for v in theirs])
        assert max(abs(v.value) for v in ours) > 1e-3


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2"])
def test_real_models_removals_are_what_the_model_says(name: str) -> None:
    subject = Subject(zoo.explainer(name))
    found = cases(subject, zoo.TEXTS)
    rng = np.random.default_rng(1)
    scores = [{"m": rng.normal(size=len(case.encoded))} for case in found]
    values = faithfulness(subject, found, scores, ["delete", "mask"], (0.4,))
    model = subject.explainer.pretrained.model
    for case, own, row in zip(found, scores, values, strict=True):
        places = sorted(np.flatnonzero(case.content), key=lambda i: (-own["m"][i], i))
        size = max(1, int(0.4 * len(places) + 0.5))
        ids = case.encoded.ids.astype(np.int64)  # type: ignore[attr-defined]
        p = []
        for gone in ([], places[:size], places[size:]):
            kept = torch.from_numpy(np.delete(ids, gone))[None]
            with torch.no_grad():
                logits = model(input_ids=kept, attention_mask=torch.ones_like(kept)).logits
            p.append(float(logits.softmax(-1)[0, case.target]))
        facts = {"removal": "delete", "share": 0.4}
        assert at(row, metric="comprehensiveness", **facts) == pytest.approx(p[0] - p[1], abs=1e-8)
        assert at(row, metric="sufficiency", **facts) == pytest.approx(p[0] - p[2], abs=1e-8)
        assert at(row, metric="log_ratio", **facts) == pytest.approx(math.log(p[1] / p[0]), abs=1e-8)


def test_perturbation_curves_of_images_by_hand() -> None:
    subject = Subject(zoo.explainer("vit"))
    images = zoo.pixels(zoo.pictures(2))
    found = cases(subject, images)
    rng = np.random.default_rng(0)
    scores = [{"m": rng.normal(size=10)} for _ in found]
    for case, own, image, values in zip(
        found, scores, images, perturbation(subject, found, scores, ["zero"]), strict=True
    ):
        for sign, name in ((-1, "positive"), (1, "negative")):
            order = np.argsort(sign * own["m"][1:], kind="stable")
            curve = []
            for step in range(10):
                changed = image.clone()
                for patch in order[: math.floor(step / 10 * 9 + 0.5)]:
                    row, column = 8 * (patch // 3), 8 * (patch % 3)
                    changed[:, row : row + 8, column : column + 8] = 0
                with torch.no_grad():
                    answer = subject.explainer.pretrained.model(pixel_values=changed[None]).logits
                curve.append(float(answer.softmax(-1)[0, case.target]))
            ours = [at(values, metric=f"curve_{name}", share=share) for share in CURVE_SHARES]
            assert ours == pytest.approx(curve, abs=1e-9)
            area = np.trapezoid(curve, CURVE_SHARES) / 0.9
            assert at(values, metric=f"auc_{name}", removal="zero") == pytest.approx(area, abs=1e-9)
    assert at(values, metric="auc_positive") != pytest.approx(at(values, metric="auc_negative"), abs=1e-6)


def test_a_flat_curve_has_its_own_height_as_area() -> None:
    """Quantus's area grows with the number of steps."""
    subject = Subject(zoo.explainer("vit"))
    (case,) = subject.cases([Document("flat", image=torch.zeros(3, 24, 24, dtype=torch.float64))])
    assert isinstance(case, Case)
    (values,) = perturbation(subject, [case], [{"m": np.arange(10.0)}], ["zero"])
    p = float(torch.from_numpy(case.logits).softmax(-1)[case.target])
    assert at(values, metric="auc_positive") == pytest.approx(p)


def test_attcat_as_published_step_by_step() -> None:
    subject = additive(WEIGHTS, target=1)
    text = "a good film the dull not great a the film"
    (case,) = cases(subject, [text])
    length = len(case.encoded)
    assert length == 12
    own = scores_of(case) + np.arange(length) * 1e-3
    (values,) = as_published(subject, [case], [{"m": own}], ["mask", "delete"])
    ratios, drops = [], []
    p = sigmoid(case.logits[1])
    for number in np.round(np.linspace(0, 1, 10) * length)[1:]:  # their loop, in their words
        gone: list[int] = []
        order = np.argsort(-own)
        i = 0
        while len(gone) < number and i != length - 1:
            if case.encoded.tokens[order[i]] not in ("[CLS]", "[SEP]"):
                gone.append(order[i])
            i += 1
        z = sum(WEIGHTS.get(t, 0.0) for j, t in enumerate(case.encoded.tokens) if j not in gone)
        ratios.append(math.log(sigmoid(z) / p))
        drops.append(abs(p - sigmoid(z)))
    assert {v.removal for v in values} == {"delete"}
    assert at(values, metric="log_odds_as_published") == pytest.approx(np.mean(ratios))
    assert at(values, metric="aopc_as_published") == pytest.approx(np.mean(drops))
    (short,) = as_published(subject, cases(subject, ["a good film"]), [{"m": np.zeros(5)}], ["delete"])
    assert short == []
