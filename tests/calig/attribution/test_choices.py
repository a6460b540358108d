"""Targets, outputs and baselines: what each means, and what is said of one that does not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from calig.attribution.explainer import Explainer
from calig.attribution.method import Method
from calig.errors import InputError
from calig.records import Attribution, Document, document_key
from tests.material import zoo
from tests.material.tiers import few

TEXTS = ["a good film", "not bad", "dull"]
NORMED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3")
"""Families that normalise their word embeddings, without positions, first of all."""


def refusal(attempt: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as caught:
        attempt()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def explain(texts: list[str], target: Any = None, **method: Any) -> list[Attribution]:
    return zoo.explainer("bert", steps=12, **method).explain(texts, target)


class TestTargets:
    def test_predicted_and_runner_up_are_the_two_largest_logits(self) -> None:
        for first, second in zip(explain(TEXTS), explain(TEXTS, "runner-up"), strict=True):
            ranked = np.argsort(-first.logits)
            assert (first.target, second.target) == (ranked[0], ranked[1])
            assert first.predicted == second.predicted == ranked[0]
            assert first.logit == pytest.approx(first.logits[ranked[0]], rel=1e-6)
            assert second.logit == pytest.approx(first.logits[ranked[1]], rel=1e-6)

    def test_index_name_and_method_say_the_same(self) -> None:
        by_index, by_name = explain(TEXTS, 2), explain(TEXTS, "yes")
        for a, b, c in zip(by_index, by_name, explain(TEXTS, **{"target": "yes"}), strict=True):
            assert a.target == b.target == c.target == 2
            assert np.array_equal(a.layer_ig, b.layer_ig)
            assert np.array_equal(a.layer_ig, c.layer_ig)
            assert a.logit == pytest.approx(a.logits[2], rel=1e-6)

    def test_each_text_may_have_a_target_of_its_own(self) -> None:
        each = explain(TEXTS, ["no", 2, "runner-up"])
        assert [a.target for a in each][:2] == [0, 2]
        for i, target in enumerate((0, 2)):
            assert np.allclose(each[i].layer_ig, explain(TEXTS, target)[i].layer_ig, atol=1e-7)

    def test_what_is_explained_is_linear_in_the_classes(self) -> None:
        """The class decides: other classes give other relevance."""
        (a,), (b,) = explain(["a good film"], 0), explain(["a good film"], 1)
        assert not np.allclose(a.layer_ig, b.layer_ig, atol=1e-3)

    def test_label_comes_with_the_document(self) -> None:
        explainer = zoo.explainer("bert", steps=12, target="label")
        documents = [Document(document_key(t), t, i) for i, t in enumerate(TEXTS)]
        assert [a.target for a in explainer.attribute(documents)] == [0, 1, 2]  # type: ignore[union-attr]

    def test_a_document_without_a_label_is_refused(self) -> None:
        message = refusal(lambda: explain(TEXTS, "label"))
        assert message == "method.target: label needs a label for every document; set corpus.label"

    @pytest.mark.parametrize("label", [3, -1])
    def test_a_label_that_is_not_a_class_is_refused(self, label: int) -> None:
        explainer = zoo.explainer("bert", steps=12, target="label")
        message = refusal(lambda: explainer.attribute([Document("k", "good", label)]))
        assert message.startswith(
            f"method.target: label {label} is no class of the model, which has 3 (0 to 2)"
        )

    @pytest.mark.parametrize("target", ["great", 3, -1])
    def test_a_target_that_is_not_a_class_is_refused(self, target: str | int) -> None:
        for attempt in (
            lambda: explain(TEXTS, target),
            lambda: explain(TEXTS, ["no", "no", target]),
            lambda: zoo.explainer("bert", target=target),
        ):
            message = refusal(attempt)
            assert message.startswith(
                f"method.target: {target!r} is not a class of the model; use predicted,"
            )
            assert message.endswith("an index below 3 or one of no, maybe, yes")

    @pytest.mark.parametrize(
        "one",
        [
            np.int64(2),
            np.uint8(2),
            np.array(2),
            torch.tensor(2),
            torch.tensor(2, dtype=torch.uint8),
            np.str_("yes"),
        ],
        ids=lambda one: type(one).__name__,
    )
    def test_an_index_may_be_numpy_s_or_torch_s(self, one: Any) -> None:
        assert [a.target for a in explain(TEXTS, one)] == [2, 2, 2]
        assert [a.target for a in explain(TEXTS, [one, 0, one])] == [2, 0, 2]

    @pytest.mark.parametrize("wrap", [np.array, torch.tensor, tuple, list])
    def test_targets_may_come_in_an_array(self, wrap: Callable[[list[int]], Any]) -> None:
        wanted = [2, 0, 1]
        assert [a.target for a in explain(TEXTS, wrap(wanted))] == wanted
        documents = zoo.documents(TEXTS)
        found = zoo.explainer("bert", steps=4).attribute(documents, wrap(wanted))
        assert [a.target for a in found] == wanted  # type: ignore[union-attr]
        assert explain([], wrap([])) == []

    @pytest.mark.parametrize(
        ("target", "said"),
        [
            (torch.tensor(1.0), "method.target: 1.0 is not a class of the model"),
            (np.float32(1), "method.target: 1.0 is not a class of the model"),
            (True, "method.target: True is not a class of the model"),
            (np.bool_(True), "method.target: True is not a class of the model"),
            (np.array([0, 1, 3]), "method.target: 3 is not a class of the model"),
            (torch.tensor([0.5, 1, 1]), "method.target: 0.5 is not a class of the model"),
            (np.array([[0, 1, 2]]), "target is a ndarray of shape (1, 3): give a class index or name"),
            ([[0], [1], [2]], "target 0 is a list: give a class index or name"),
            (iter([0, 1, 2]), "target is a list_iterator: give a class index or name"),
            ({0, 1, 2}, "target is a set: give a class index or name"),
            (torch.tensor([1, 0]), "2 targets for 3 texts: give one, or one per text"),
        ],
    )
    def test_other_targets_are_refused_in_one_line(self, target: Any, said: str) -> None:
        assert refusal(lambda: explain(TEXTS, target)).startswith(said)

    def test_fewer_targets_than_texts_are_refused(self) -> None:
        message = refusal(lambda: explain(TEXTS, ["no", "yes"]))
        assert message == "2 targets for 3 texts: give one, or one per text"


class TestOutputs:
    @pytest.mark.parametrize("target", ["predicted", "runner-up"])
    def test_a_margin_is_over_the_strongest_other_and_complete(self, target: str) -> None:
        """Where the strongest other changes along the path there is a kink, and some depths do not converge."""
        explainer = zoo.explainer("electra", output="margin", tolerance=1e-3)
        found = explainer.explain(TEXTS, target)
        assert sum(a.converged.sum() for a in found) >= 4
        for a in found:
            others = np.delete(a.logits.astype(np.float64), a.target)
            assert a.logit == pytest.approx(float(a.logits[a.target]) - others.max(), abs=1e-6)
            total = a.layer_ig.sum(axis=1, dtype=np.float64)
            scale = np.maximum(abs(a.logit - a.baseline_logit), 0.05 * np.abs(a.layer_ig).sum(axis=1))
            assert (np.abs(total - (a.logit - a.baseline_logit)) <= 1e-3 * scale + 1e-6)[a.converged].all()

    def test_a_margin_of_two_classes_is_the_difference_of_their_logits(self, tmp_path: Any) -> None:
        zoo.save("bert", tmp_path, id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1})
        from calig.models.loading import load_pretrained

        pretrained = load_pretrained(str(tmp_path), dtype="float64")
        margin, no, yes = (
            zoo.explainer("bert", pretrained=pretrained, steps=12, output=output).explain(["a good film"], t)[
                0
            ]
            for output, t in (("margin", "yes"), ("logit", "no"), ("logit", "yes"))
        )
        np.testing.assert_allclose(margin.layer_ig, yes.layer_ig - no.layer_ig, atol=1e-6)
        np.testing.assert_allclose(margin.context, yes.context - no.context, atol=1e-6)


class TestBaselines:
    @pytest.mark.parametrize("name", few(zoo.TEXT_FAMILIES, zoo.QUICK, zoo.MATRIX))
    @pytest.mark.parametrize("baseline", ["pad", "mask", "zero", "token:a"])
    def test_the_baseline_logit_is_the_model_s_on_those_embeddings(self, name: str, baseline: str) -> None:
        """Second derivation: the same embeddings handed to the model as `inputs_embeds`, for one unpadded text."""
        pretrained = zoo.shared(name)
        if baseline == "zero" and name in NORMED:
            assert "use 'mask'" in refusal(lambda: zoo.explainer(name, steps=6, baseline=baseline))
            return
        explainer = zoo.explainer(name, steps=6, baseline=baseline)
        (a,) = explainer.explain(["good film"])
        model, tokenizer = pretrained.model, pretrained.tokenizer
        given = zoo.inputs(pretrained, ["good film"])
        table = model.get_input_embeddings()
        rows = {"pad": tokenizer.pad_token_id, "mask": tokenizer.mask_token_id}
        rows["token:a"] = tokenizer("a", add_special_tokens=False)["input_ids"][0]
        embeds = table(given.pop("input_ids")).clone()
        vector = torch.zeros_like(embeds[0, 0])
        if baseline != "zero":
            vector = table(torch.tensor(rows[baseline]))
        embeds[0, torch.from_numpy(~a.is_special)] = vector
        logits = model(inputs_embeds=embeds, **given).logits[0]
        assert a.baseline_logit == pytest.approx(float(logits[a.target]), abs=1e-9)

    def test_baselines_differ(self) -> None:
        seen = {
            round(explain(["a good film"], 0, baseline=b)[0].baseline_logit, 6)
            for b in ("pad", "mask", "zero", "token:film")
        }
        assert len(seen) == 4

    def test_an_unknown_baseline_is_refused(self) -> None:
        message = refusal(lambda: zoo.explainer("bert", baseline="noise"))
        assert message == "method.baseline: 'noise' is not one of pad, mask, zero, token:<text>"

    def test_a_baseline_of_several_tokens_or_none_is_refused(self) -> None:
        message = refusal(lambda: zoo.explainer("bert", baseline="token:good film"))
        assert message == "method.baseline: 'token:good film' is 2 tokens for this tokenizer; name one token"
        assert "is 0 tokens" in refusal(lambda: zoo.explainer("bert", baseline="token: "))

    def test_a_baseline_of_zeros_before_a_norm_is_refused(self) -> None:
        """Llama's states are its word embeddings; GPT-2 adds positions, and ModernBERT's zeros are mixed at once."""
        assert refusal(lambda: zoo.explainer("llama", baseline="zero")) == (
            "method.baseline: zero leaves hidden states of (nearly) zero, which this model's norms scale up without "
            "bound; use 'mask', whose row is ordinary"
        )
        for name in ("gpt2", "modernbert"):
            explained = zoo.explainer(name, baseline="zero").explain(list(zoo.TEXTS))
            assert all(a.converged.all() for a in explained)

    @pytest.mark.parametrize(
        ("name", "others", "taken"),
        few(
            [
                ("llama", (), "mask"),
                ("qwen3", ("mask",), "token:<unk>"),
                ("gemma", ("mask", "<unk>"), "token:,"),
                ("gemma3", ("mask", "<unk>", ",", ".", "the", " "), "token:!"),
            ],
            [("llama", (), "mask"), ("qwen3", ("mask",), "token:<unk>")],
            zoo.MATRIX,
        ),
    )
    def test_another_row_stands_in_for_a_padding_row_of_zeros(
        self, name: str, others: tuple[str, ...], taken: str
    ) -> None:
        """Whichever rows are no ordinary ones; the choice is said, is the method's, and converges."""
        pretrained = zoo.load(name)
        tokenizer: Any = pretrained.tokenizer
        rows: Any = pretrained.model.get_input_embeddings().weight.data
        rows[tokenizer.pad_token_id] = 0
        for other in others:
            index = tokenizer.mask_token_id
            if other != "mask":
                [index] = tokenizer(other, add_special_tokens=False)["input_ids"][-1:]
            rows[index] *= 1e-6
        explainer = zoo.explainer(name, pretrained=pretrained)
        assert explainer.method.baseline == taken
        [note] = explainer.notes
        assert note.startswith("method.baseline: pad leaves hidden states of (nearly) zero")
        assert note.endswith(f"{taken!r}, whose row is ordinary, is taken in its place")
        asked = zoo.explainer(name, pretrained=pretrained, baseline=taken)
        assert asked.notes == ()
        for a, b in zip(*(e.explain(["good film", "a dull cast"]) for e in (explainer, asked)), strict=True):
            assert a.converged.all()
            assert np.array_equal(a.layer_ig, b.layer_ig)

    def test_a_baseline_that_the_tokenizer_lacks_is_refused(self) -> None:
        pretrained = zoo.load("bert")
        pretrained.tokenizer.mask_token = None
        message = refusal(lambda: zoo.explainer("bert", pretrained=pretrained, baseline="mask"))
        assert message == "method.baseline: the tokenizer has no mask token; use zero or token:<text>"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("output", "probability", "'probability' is not one of logit, margin"),
        (
            "rule",
            "simpson",
            "'simpson' is not one of auto, midpoint, trapezoid, gauss-kronrod, gauss-legendre",
        ),
        ("fusion", "rollout", "'rollout' is not one of agreement, column"),
        ("context", "output", "'output' is not one of path, input"),
        ("tolerance", 0.0, "must be above 0 and below 1"),
        ("tolerance", 1.0, "must be above 0 and below 1"),
        ("tolerance", float("nan"), "must be above 0 and below 1"),
        ("weight", 1.5, "must be from 0 to 1"),
        ("max_nodes", 5, "must be 6 or more"),
    ],
)
def test_an_unknown_choice_is_refused(field: str, value: Any, said: str) -> None:
    message = refusal(lambda: Method(**{field: value}))
    assert message.startswith(f"method.{field}: ")
    assert said in message
    assert said in refusal(lambda: Explainer.from_pretrained(str(zoo.folder("bert")), **{field: value}))


def test_identity_leaves_out_what_changes_no_stored_number() -> None:
    assert Method(weight=0.1, fusion="column").identity() == Method().identity()
    assert Method(context="input").identity() != Method().identity()
    assert Method(tolerance=0.1).identity() != Method().identity()
