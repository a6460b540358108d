"""A document's numbers do not depend on those that are read with it, or were read before it; mixtures are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from calig.attribution.explainer import Explainer
from calig.errors import InputError
from calig.models import families
from calig.models.classifier import Classifier
from calig.models.configuration import read_config
from calig.models.experts import refuse_experts
from calig.models.families import Family, declare_family
from calig.models.independence import Memory, depends_on_length
from calig.models.inputs import Batch
from calig.models.loading import fingerprint, load_pretrained
from tests.calig.models.own import OwnModel
from tests.material import zoo
from tests.material.tiers import few

SHORT, LONG = "a good film", "the cast is fine but the film is dull , dull , dull and never warm"
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 16,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
PLAIN = {"rope_type": "default", "rope_theta": 1e4}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "phi3": (
        "Phi3",
        {"rope_parameters": LONGROPE, "original_max_position_embeddings": 16, "num_key_value_heads": 1},
    ),
    "llama-longrope": ("Llama", {"rope_parameters": LONGROPE, **zoo.texts.LLAMA}),
    "llama-dynamic": ("Llama", {"rope_parameters": DYNAMIC, **zoo.texts.LLAMA}),
    "qwen2-dynamic": ("Qwen2", {"rope_parameters": DYNAMIC, **zoo.texts.LLAMA}),
    "gemma3-dynamic": (
        "Gemma3Text",
        {
            "rope_parameters": {"full_attention": DYNAMIC, "sliding_attention": PLAIN},
            **zoo.texts.LLAMA,
            **zoo.texts.WINDOW,
        },
    ),
}
quick_kinds = few(KINDS, ["phi3", "llama-dynamic"], zoo.MATRIX)


def saved(kind: str, folder: Path, **changes: Any) -> Path:
    stem, options = KINDS[kind]
    tokenizer = zoo.texts.byte_level()
    torch.manual_seed(0)
    usual = {"vocab_size": len(tokenizer), "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    usual |= {"num_labels": 3, "initializer_range": zoo.texts.CALM, "max_position_embeddings": 64}
    config = getattr(transformers, f"{stem}Config")(**{**usual, **zoo.texts.sizes()(), **options, **changes})
    model = getattr(transformers, f"{stem}ForSequenceClassification")(config)
    for parameter in model.parameters():  # the row of the padding is zeros at first
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def own_answer(folder: Path, text: str) -> np.ndarray:
    """The answer of a model that has read nothing before, for one text alone."""
    pretrained = load_pretrained(str(folder), dtype="float64")
    with torch.no_grad():
        return pretrained.model(**pretrained.tokenizer([text], return_tensors="pt")).logits[0].numpy()


@pytest.mark.parametrize("kind", quick_kinds)
def test_a_text_is_explained_as_if_it_were_alone(kind: str, tmp_path: Path) -> None:
    folder = saved(kind, tmp_path)
    texts = [SHORT, LONG, "a dull film", LONG[:30]]
    explainer = Explainer.from_pretrained(folder, dtype="float64", tolerance=1e-3)
    assert explainer.engine.classifier.one_length
    together = explainer.explain(texts)
    again = explainer.explain([SHORT])[0]
    for text, a in zip(texts, together, strict=True):
        np.testing.assert_allclose(a.logits, own_answer(folder, text), rtol=1e-5, atol=1e-6)
        residual = np.abs(a.layer_ig.sum(1, dtype=np.float64) - (a.logit - a.baseline_logit))
        assert (residual < 1e-2 * np.abs(a.layer_ig).sum(1).clip(min=0.1)).all()
        alone = Explainer.from_pretrained(folder, dtype="float64", tolerance=1e-3).explain([text])[0]
        np.testing.assert_allclose(a.layer_ig, alone.layer_ig, atol=1e-6)
        np.testing.assert_allclose(a.context, alone.context, atol=1e-6)
    np.testing.assert_allclose(again.layer_ig, together[0].layer_ig, atol=1e-6)


@pytest.mark.parametrize("kind", ["phi3", "llama-dynamic"])
def test_the_trap_is_there(kind: str, tmp_path: Path) -> None:
    """Run as 0.1.0 did, these models give a text other answers beside, or after, a longer one."""
    folder = saved(kind, tmp_path, **({"max_position_embeddings": 16} if "dynamic" in kind else {}))
    pretrained = load_pretrained(str(folder), dtype="float64")
    middle = "a dull film , never"
    ids = [pretrained.tokenizer([text], return_tensors="pt") for text in (middle, LONG)]
    with torch.no_grad():
        first = pretrained.model(**ids[0]).logits
        pretrained.model(**ids[1])
        after = pretrained.model(**ids[0]).logits
        both = pretrained.model(**pretrained.tokenizer([middle[:9], LONG], padding=True, return_tensors="pt"))
    if kind == "phi3":
        assert np.abs(both.logits[0].numpy() - own_answer(folder, middle[:9])).max() > 1e-3
    else:
        assert float((after - first).abs().max()) > 1e-4


@pytest.mark.parametrize("kind", quick_kinds)
def test_nothing_is_remembered_from_one_batch_to_the_next(kind: str, tmp_path: Path) -> None:
    """Also of texts longer than the model was made for, and where somebody else ran the model before."""
    folder = saved(kind, tmp_path, **({"max_position_embeddings": 16} if "dynamic" in kind else {}))
    pretrained = load_pretrained(str(folder), dtype="float64")
    texts = [LONG, "a dull film , never", "a film", LONG[:30], "a dull film , never"]
    given = [pretrained.tokenizer([text], return_tensors="pt") for text in texts]
    with torch.no_grad():
        pretrained.model(**given[0])
        classifier = Classifier(pretrained.model)
        for text, inputs in zip(texts, given, strict=True):
            found = classifier.answer(Batch(dict(inputs), inputs["attention_mask"].bool()))
            np.testing.assert_allclose(found[0].numpy(), own_answer(folder, text), rtol=1e-9, atol=1e-10)


def test_a_switch_far_beyond_short_texts_is_found_without_a_long_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of Phi-3-mini, at 4,096: told by positions alone, whatever the configuration declares."""
    rope = {**LONGROPE, "original_max_position_embeddings": 4096}
    changes = {"original_max_position_embeddings": 4096, "max_position_embeddings": 131_072}
    pretrained = load_pretrained(str(saved("phi3", tmp_path, rope_parameters=rope, **changes)))
    assert depends_on_length(pretrained.model.config)
    monkeypatch.setattr("calig.models.independence.depends_on_length", lambda config: False)
    assert Classifier(pretrained.model).one_length


@pytest.mark.parametrize("name", few(zoo.FAMILIES, zoo.QUICK, zoo.MATRIX))
def test_usual_models_take_texts_of_any_length_together(name: str) -> None:
    classifier = zoo.classifier(name)
    assert not classifier.one_length
    assert not depends_on_length(classifier.model.config)


def test_a_model_that_depends_on_lengths_is_another_than_it_was(tmp_path: Path) -> None:
    """What 0.1.0 stored of it, mixed lengths and all, is not taken for its own."""
    pretrained = load_pretrained(str(saved("phi3", tmp_path)))
    before = fingerprint(pretrained)
    pretrained.model.config.rope_parameters = {**LONGROPE, "rope_type": "default"}
    assert fingerprint(pretrained) != before
    assert not depends_on_length(transformers.LlamaConfig())


class Coupled(OwnModel):
    """Texts of one batch change each other."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = super().forward(*args, **kwargs)
        out.logits = out.logits + out.logits.sum(0)
        return out


class Unmasked(OwnModel):
    """Padding is read as if it were text."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any) -> Any:
        return super().forward(input_ids, torch.ones_like(attention_mask), **kwargs)


class Remembering(OwnModel):
    """The longest text so far changes the answers."""

    longest = 0

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any) -> Any:
        self.longest = max(self.longest, input_ids.shape[1])
        out = super().forward(input_ids, attention_mask, **kwargs)
        out.logits = out.logits + self.longest
        return out


class Hiding(Remembering):
    """It remembers where nobody would look."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = [0]

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any) -> Any:
        self.seen[0] = max(self.seen[0], input_ids.shape[1])
        self.longest = 0
        out = super().forward(input_ids, attention_mask, **kwargs)
        out.logits = out.logits + self.seen[0]
        return out


class Routed(OwnModel):
    """A mixture of experts that its configuration does not tell of."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(2))


class TestOwnModels:
    @pytest.fixture(autouse=True)
    def declared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(families, "_declared", {})
        declare_family(Family("my-model", blocks="encoder.stages", attention="attention.dropout"))

    def made(self, kind: type[OwnModel]) -> OwnModel:
        torch.manual_seed(0)
        model = kind().double().eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.data.copy_(torch.randn_like(parameter))
        return model

    @pytest.mark.parametrize(
        ("kind", "said"),
        [
            (Coupled, "Coupled gives a text other answers beside another of its length"),
            (Hiding, "Hiding gives a text other answers after a longer one"),
            (Routed, "my-model models are mixtures of experts (its experts is a ModuleList)"),
        ],
    )
    def test_what_cannot_be_made_independent_is_refused_by_name(
        self, kind: type[OwnModel], said: str
    ) -> None:
        with pytest.raises(InputError) as caught:
            Classifier(self.made(kind))
        assert said in str(caught.value)

    def test_texts_beside_padding_that_is_read_are_given_none(self) -> None:
        assert Classifier(self.made(Unmasked)).one_length
        assert not Classifier(self.made(OwnModel)).one_length

    def test_what_a_module_remembers_is_put_back(self) -> None:
        """It is found beside no text, and after one."""
        model = self.made(Remembering)
        classifier = Classifier(model)
        ids = torch.arange(5, 11)[None]
        for _ in range(2):
            found = classifier.answer(Batch({"input_ids": ids, "attention_mask": ids.bool().long()}, ids > 0))
            fresh = self.made(Remembering)(ids, torch.ones_like(ids)).logits
            torch.testing.assert_close(found, fresh)
            longer = ids.repeat(1, 3)
            classifier.answer(
                Batch({"input_ids": longer, "attention_mask": longer.bool().long()}, longer > 0)
            )


def test_memory_puts_back_numbers_tensors_and_buffers_in_place() -> None:
    module = torch.nn.Linear(2, 2)
    module.register_buffer("table", torch.zeros(3), persistent=False)
    module.count, module.kept = 0, torch.ones(2)
    table = module.table
    memory = Memory(module)
    module.table.add_(1)
    module.count, module.kept, module.new = 7, torch.zeros(5), 3
    memory.keep_changed()
    memory.put_back()
    assert (module.count, hasattr(module, "new")) == (0, False)
    assert module.table is table
    assert table.tolist() == [0, 0, 0]
    assert module.kept.tolist() == [1, 1]
    module.register_buffer("table", torch.ones(4), persistent=False)
    memory.put_back()
    assert module.table is table


MIXTURES = {
    "Mixtral": {"num_key_value_heads": 1, "num_local_experts": 4},
    "GptOss": {"num_key_value_heads": 1, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen2Moe": {"num_key_value_heads": 1, "num_experts": 4, "moe_intermediate_size": 16},
    "Qwen3Moe": {"num_key_value_heads": 1, "num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8},
    "Phimoe": {"num_key_value_heads": 1, "num_local_experts": 4},
    "Jamba": {"num_key_value_heads": 1, "num_experts": 4, "use_mamba_kernels": False},
    "JetMoe": {"num_local_experts": 4},
    "DeepseekV2": {"n_routed_experts": 4, "moe_intermediate_size": 16, "num_key_value_heads": 3},
    "HunYuanMoEV1": {"num_experts": 4, "num_key_value_heads": 1, "head_dim": 8},
    "MiniMax": {"num_local_experts": 4, "num_key_value_heads": 1, "head_dim": 8},
}


@pytest.mark.parametrize("stem", few(MIXTURES, ["GptOss"], "every mixture of experts that classifies texts"))
def test_mixtures_of_experts_are_refused_by_name_and_reason(stem: str, tmp_path: Path) -> None:
    """By the configuration, before weights are read; and by the modules, whatever that says."""
    config = getattr(transformers, f"{stem}Config")(
        vocab_size=60, pad_token_id=1, num_labels=3, **zoo.texts.sizes()(), **MIXTURES[stem]
    )
    config.architectures = [f"{stem}ForSequenceClassification"]
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError) as caught:
        read_config(str(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"model.id: {config.model_type} models are mixtures of experts (")
    assert "the integral's sums cannot hold" in message
    assert "change each other's answers" in message
    with torch.device("meta"):
        model = getattr(transformers, f"{stem}ForSequenceClassification")(config)
    with pytest.raises(InputError, match="are mixtures of experts"):
        refuse_experts(model, config)


@pytest.mark.parametrize("name", few(zoo.FAMILIES, zoo.QUICK, zoo.MATRIX))
def test_other_models_are_not_taken_for_mixtures(name: str) -> None:
    model = zoo.shared(name).model
    refuse_experts(model, model.config)
