"""Families are declared in a line; what cannot be read, or would be read wrongly, is refused in one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import calig
from calig import Family, declare_family
from calig.errors import InputError
from calig.models import families
from calig.models.classifier import Classifier
from calig.models.inputs import Batch
from tests.calig.models.own import own_model
from tests.material import zoo
from tests.material.tiers import few

README = Path(__file__).parents[3] / "README.md"
DECLARED = Family("my-model", blocks="encoder.stages", attention="attention.dropout")


@pytest.fixture(autouse=True)
def undeclared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(families, "_declared", {})
    families._installed.cache_clear()
    yield
    families._installed.cache_clear()


def refusal(model: Any) -> str:
    before = zoo.condition(model)
    with pytest.raises(InputError) as caught:
        Classifier(model)
    message = str(caught.value)
    assert "\n" not in message
    assert zoo.condition(model) == before, "what is refused is left as it was found"
    return message


def small(stem: str, **config: Any) -> Any:
    """A model of a family that is not in the zoo, not saved."""
    usual = {"vocab_size": 60, "pad_token_id": 1, "num_labels": 3, "initializer_range": 0.25}
    sizes = zoo.texts.sizes(max_position_embeddings=64)()
    torch.manual_seed(0)
    made = getattr(transformers, f"{stem}Config")(**{**usual, **sizes, **config})
    model = getattr(transformers, f"{stem}ForSequenceClassification")(made)
    return model.double().eval().requires_grad_(False)


def batch_of(rows: int, length: int, ids: int) -> Batch:
    drawn = torch.randint(5, ids, (rows, length), generator=torch.Generator().manual_seed(0))
    return Batch({"input_ids": drawn, "attention_mask": torch.ones_like(drawn)}, drawn > 5)


class TestDeclared:
    def check(self, model: Any) -> Classifier:
        """Entered anywhere with the states of a baseline it answers as on that baseline."""
        classifier = Classifier(model)
        batch = batch_of(3, 9, 50)
        base = classifier.run(batch, classifier.word_embedding(3))
        for depth, state in enumerate(base.states):
            torch.testing.assert_close(classifier.run_from(depth, state, batch), base.logits)
        return classifier

    def test_a_family_declared_as_the_readme_shows_is_read(self) -> None:
        section = README.read_text().split("A model family of your own", 1)[1]
        example = re.search(r"```python\n(.*?)```", section, re.DOTALL)
        assert example is not None
        assert "cannot tell the blocks of OwnModel" in refusal(own_model())
        exec(example.group(1), {})
        model = own_model()
        classifier = self.check(model)
        assert (classifier.depth, classifier.heads) == (4, 2)

    def test_attention_is_what_passes_the_declared_module(self) -> None:
        """A second derivation: the gradient of one probability by moving it."""
        declare_family(DECLARED)
        model = own_model()
        classifier, batch = Classifier(model), batch_of(1, 4, 50)
        found = classifier.run(batch, attention=True)
        gradients = torch.autograd.grad(found.logits[0, 1], found.probabilities)
        for block, gradient in enumerate(gradients):
            seen = []
            for move in (1e-5, -1e-5):
                change = torch.zeros_like(gradient)
                change[0, 1, 2, 3] = move
                dropout = model.encoder["stages"][block].attention.dropout
                hook = dropout.register_forward_hook(lambda _m, _a, out, change=change: out + change)
                seen.append(float(classifier.answer(batch)[0, 1]))
                hook.remove()
            assert (seen[0] - seen[1]) / 2e-5 == pytest.approx(
                float(gradient[0, 1, 2, 3]), rel=1e-6, abs=1e-9
            )

    def test_a_family_declared_by_an_installed_package_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        point = EntryPoint("my-model", f"{__name__}:DECLARED", "calig.families")
        monkeypatch.setattr(families, "entry_points", lambda group: [point] if group == point.group else [])
        self.check(own_model())

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("no_such_package:FAMILY", "cannot be loaded (No module"),
            (f"{__name__}:README", "is no calig.Family"),
        ],
    )
    def test_a_broken_installed_declaration_is_refused(
        self, value: str, said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        point = EntryPoint("my-model", value, "calig.families")
        monkeypatch.setattr(families, "entry_points", lambda group: [point])
        message = refusal(own_model())
        assert message.startswith(f"calig.families: {value} ")
        assert said in message

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"blocks": "encoder.layers"}, "has nothing at 'encoder.layers'"),
            ({"blocks": "words"}, "'words' of OwnModel is no list of blocks"),
            ({"attention": "attention.drop"}, "attention.drop: "),
            ({"attention": "attention.project"}, "attention.project: 0 maps for 4 blocks"),
            ({"attention": None}, "interface: 0 maps for 4 blocks; outputs: 0 maps for 4 blocks"),
        ],
    )
    def test_a_declaration_that_does_not_fit_is_refused(self, wrong: dict[str, Any], said: str) -> None:
        declare_family(Family("my-model", **{"blocks": "encoder.stages", **wrong}))
        assert said in refusal(own_model())

    def test_the_names_are_there_without_loading_torch_at_import(self) -> None:
        assert {"Family", "declare_family"} <= set(calig.__all__)


class TestRefused:
    def test_a_message_says_how_to_declare(self) -> None:
        assert refusal(own_model()) == (
            "model.id: cannot tell the blocks of OwnModel: expected one list of None, found 0; say how to read it "
            "with calig.declare_family(Family('my-model', …)): see help('calig.models.families')"
        )

    def test_a_head_that_reads_past_the_blocks_is_refused(self) -> None:
        """Entered with its own states it would answer rightly; the states of another input show it."""
        declare_family(DECLARED)
        message = refusal(own_model(leak=True))
        assert "entered at depth 0 does not give its own answer" in message

    def test_blocks_that_see_other_tokens_are_refused(self) -> None:
        declare_family(DECLARED)
        assert "do not see 6 tokens of a text of 6" in refusal(own_model(halve=True))

    def test_attention_within_a_band_is_refused(self) -> None:
        model = small("Longformer", attention_window=8)
        assert refusal(model) == (
            "model.id: longformer models cannot be explained: their attention is a band around each token, "
            "not tokens × tokens"
        )
        declare_family(Family("longformer"))
        assert "do not see 6 tokens of a text of 6" in refusal(model), "it pads inside"

    def test_a_block_that_computes_attention_otherwise_is_refused(self) -> None:
        pretrained = zoo.load("bert")
        pretrained.model.bert.encoder.layer[1].forward = lambda hidden, *_args, **_kwargs: hidden
        assert "cannot find the attention probabilities" in refusal(pretrained.model)

    def test_several_maps_a_block_are_refused(self) -> None:
        assert "6 maps for 3 blocks" in refusal(small("Albert", embedding_size=16, inner_group_num=2))

    def test_nothing_is_refused_for_answers_that_are_not_finite(self) -> None:
        pretrained = zoo.load("bert")
        pretrained.model.classifier.bias.data.fill_(float("nan"))
        assert Classifier(pretrained.model).heads == zoo.HEADS


class TestRead:
    """Families beyond the zoo that need something, each verified where it is made."""

    @pytest.mark.parametrize(
        ("stem", "config"),
        [
            ("Albert", {"embedding_size": 16, "num_hidden_groups": 2, "num_hidden_layers": 6}),
            ("DebertaV2", {"conv_kernel_size": 3, "position_biased_input": False, **zoo.texts.DEBERTA}),
            (
                "Gemma2",
                {"num_key_value_heads": 1, "head_dim": 8, "attn_logit_softcapping": 2.0, **zoo.texts.WINDOW},
            ),
            ("GPTNeoX", {}),
            ("Bloom", {}),
            ("ConvBert", {"embedding_size": 16, "head_ratio": 1, "conv_kernel_size": 3}),
            ("OpenAIGPT", {"n_embd": 24, "n_layer": 3, "n_head": 3, "n_positions": 64}),
        ],
    )
    def test_families_beyond_the_zoo_answer_alike_when_entered_anywhere(
        self, stem: str, config: dict[str, Any]
    ) -> None:
        model = small(stem, **config)
        before = zoo.condition(model)
        TestDeclared().check(model)
        assert zoo.condition(model) == before

    @pytest.mark.parametrize(
        "name", few(["modernbert", "qwen2", "gemma3", "mistral"], ["modernbert"], zoo.MATRIX)
    )
    def test_a_block_keeps_its_own_kind_of_attention(self, name: str) -> None:
        """Windows are shorter than the text: a block that took another's mask would answer otherwise."""
        model = zoo.shared(name).model
        classifier, batch = zoo.classifier(name), batch_of(2, 30, 50)
        whole = classifier.run(batch)
        for depth, state in enumerate(whole.states):
            assert torch.equal(classifier.run_from(depth, state, batch), whole.logits)
        maps = classifier.run(batch, attention=True).probabilities
        reach = [int((a[0, 0].detach() > 0).sum(-1).max()) for a in maps]
        kinds = getattr(model.config, "layer_types", None) or ["sliding_attention"] * zoo.BLOCKS
        assert [r < 30 for r in reach] == [kind == "sliding_attention" for kind in kinds]

    def test_classifiers_are_verified_in_every_dtype(self) -> None:
        for dtype in (torch.bfloat16, torch.float32):
            for name in zoo.FEW:
                assert Classifier(zoo.load(name).model.to(dtype)).heads == zoo.HEADS

    def test_verification_does_not_need_gradients_to_be_on(self) -> None:
        with torch.no_grad():
            assert Classifier(zoo.load("bert").model).heads == zoo.HEADS

    def test_two_lists_are_told_apart_by_a_declaration(self) -> None:
        model = zoo.load("bert").model
        model.twin = nn.ModuleList([nn.Identity()] * zoo.BLOCKS)
        assert "found 2" in refusal(model)
        declare_family(Family("bert", blocks="bert.encoder.layer"))
        assert Classifier(model).depth == zoo.BLOCKS
