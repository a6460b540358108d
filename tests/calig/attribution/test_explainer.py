"""The library's front door, as DESIGN's contract has it."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest

from calig import Attribution, Explainer
from calig.attribution.explainer import attribution_key, schedule_key
from calig.attribution.method import Method
from calig.attribution.quadrature import rule
from calig.attribution.schedule import Schedule
from calig.errors import InputError
from calig.models.loading import fingerprint
from calig.records import document_key
from tests.material import zoo
from tests.material.tiers import few


def test_the_front_door_has_the_names_and_defaults_of_the_contract() -> None:
    given = inspect.signature(Explainer.from_pretrained).parameters
    expected = {
        "device": "cpu",
        "dtype": "float32",
        "baseline": "pad",
        "tolerance": 1e-2,
        "context": "path",
        "fusion": "agreement",
        "weight": 0.5,
    }
    assert next(iter(given)) == "path_or_hub_id"
    assert {name: given[name].default for name in expected} == expected
    assert inspect.signature(Explainer.explain).parameters["target"].default is None


@pytest.mark.parametrize("name", few(zoo.TEXT_FAMILIES, zoo.QUICK, zoo.MATRIX))
def test_an_attribution_has_the_fields_and_shapes_of_the_contract(name: str) -> None:
    explainer = Explainer.from_pretrained(str(zoo.folder(name)), weight=0.25, max_nodes=18)
    assert explainer.depth == zoo.BLOCKS
    assert explainer.classes == zoo.CLASSES
    text = "a dull film , not good"
    (a,) = explainer.explain([text])
    tokens, blocks = len(a.tokens), zoo.BLOCKS
    assert isinstance(a, Attribution)
    shapes = {
        "layer_ig": (blocks + 1, tokens),
        "context": (blocks, tokens),
        "context_norm": (blocks,),
        "relevance": (blocks, tokens),
        "scores": (tokens,),
        "completeness_error": (blocks + 1,),
        "error_estimate": (blocks + 1,),
        "logits": (len(zoo.CLASSES),),
    }
    for field, shape in shapes.items():
        value = getattr(a, field)
        assert (value.shape, value.dtype) == (shape, np.float32), field
        assert np.isfinite(value).all(), field
    for field, shape, dtype in (
        ("converged", (blocks + 1,), np.bool_),
        ("nodes", (blocks + 1,), np.int32),
        ("word_ids", (tokens,), np.int32),
        ("char_spans", (tokens, 2), np.int32),
        ("is_special", (tokens,), np.bool_),
    ):
        value = getattr(a, field)
        assert (value.shape, value.dtype) == (shape, dtype), field
    assert a.key == document_key(text)
    assert all(isinstance(token, str) for token in a.tokens)
    assert a.seconds > 0
    assert isinstance(a.logit, float)
    assert isinstance(a.baseline_logit, float)
    assert (a.context_norm >= np.abs(a.context).sum(axis=1) * (1 - 1e-5)).all()


def test_one_text_for_a_list_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"^explain\(\) takes a list of texts, not one string: explain\(\[text\]\)$"
    ):
        zoo.explainer("bert").explain("a good film")


def test_no_texts_give_no_attributions() -> None:
    assert zoo.explainer("bert").explain([]) == []


def test_answers_come_in_the_order_of_the_questions() -> None:
    texts = ["a good film , never dull", "good", "a film", "not bad , not great , not warm", "dull film"]
    found = zoo.explainer("bert", steps=6, token_budget=20).explain(texts)
    assert [a.key for a in found] == [document_key(text) for text in texts]


class TestKeys:
    def test_a_schedule_belongs_to_the_model_and_the_method(self) -> None:
        model = fingerprint(zoo.shared("bert"))
        keys = {
            schedule_key(model, Method()),
            schedule_key(fingerprint(zoo.shared("electra")), Method()),
            schedule_key(model, Method(tolerance=1e-3)),
            schedule_key(model, Method(baseline="mask")),
        }
        assert len(keys) == 4
        assert schedule_key(model, Method(weight=0.1)) == schedule_key(model, Method())
        assert all(len(key) == 32 and int(key, 16) >= 0 for key in keys)

    def test_attributions_also_belong_to_the_schedule(self) -> None:
        schedule = Schedule.default(rule("auto", 486), 3)
        key = attribution_key("m", Method(), schedule)
        assert key == attribution_key("m", Method(weight=0.9), schedule)
        assert key != attribution_key("m", Method(), replace(schedule, starts=(8,) * 4))
        assert key != attribution_key("n", Method(), schedule)
        assert key != schedule_key("m", Method())
