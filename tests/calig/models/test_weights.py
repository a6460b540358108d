"""What is on disk is what is explained: weights that would be dropped, made up or cut are refused or named."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import transformers

from calig.attribution.explainer import Explainer
from calig.errors import InputError
from calig.models.loading import fingerprint, load_pretrained
from tests.calig.models import faults
from tests.material import zoo
from tests.material.tiers import few

FAULTS: dict[str, tuple[Callable[[str], Callable[[faults.Tensors], faults.Tensors]], tuple[str, ...]]] = {
    "another block": (
        lambda _: faults.with_another_block,
        ("has no place for", "its files hold more blocks in", "config.json"),
    ),
    "no head": (
        lambda name: faults.without(faults.head_of(name)),
        ("lacks the weights", "without a trained classification head"),
    ),
    "prefix": (
        lambda _: faults.prefixed("_orig_mod."),
        ("under the prefix '_orig_mod.'", "would be left out"),
    ),
    "another prefix": (lambda _: faults.prefixed("net."), ("under the prefix 'net.'", "without the prefix")),
    "adapter": (lambda _: faults.with_lora, ("hold the weights of an adapter", "merge_and_unload()")),
    "shape": (lambda _: faults.reshaped, ("its weights do not fit its config.json", "save_pretrained()")),
    "own part": (lambda _: faults.with_own_part, ("has no place for mean_pooler.0.weight", "another class")),
}


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_pretrained(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"model.id: {folder}")
    return message


@pytest.mark.parametrize("name", few(zoo.FAMILIES, zoo.QUICK, zoo.MATRIX))
class TestEveryFamily:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_fault_is_refused_in_a_line_that_says_what_and_what_to_do(
        self, name: str, fault: str, tmp_path: Path
    ) -> None:
        make, said = FAULTS[fault]
        saved = faults.copied(name, tmp_path)
        faults.edit_weights(saved, make(name))
        message = refusal(saved)
        for words in said:
            assert words in message

    def test_a_whole_model_has_nothing_to_be_told(self, name: str, capfd: pytest.CaptureFixture[str]) -> None:
        assert load_pretrained(str(zoo.folder(name))).notes == ()
        assert "LOAD REPORT" not in capfd.readouterr().err

    def test_a_class_of_one_s_own_is_refused(self, name: str, tmp_path: Path) -> None:
        """Its weights fit, and it may compute something else with them."""
        saved = faults.copied(name, tmp_path)
        own = json.loads((saved / "config.json").read_text())["architectures"][0]
        faults.configure(saved, architectures=[f"Pooled{own}"])
        message = refusal(saved)
        if name == "deit-teacher":  # of two classes the name chooses one
            assert "lacks the weights classifier.bias" in message
        else:
            assert (
                f"it was saved as Pooled{own}, a class that transformers does not have; {own} would"
                in message
            )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return faults.copied("bert", tmp_path)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_a_prefix_within_the_names_is_refused(saved: Path, prefix: str) -> None:
    """As it is where each block was compiled or wrapped by itself."""
    within = "bert.encoder.layer.1."
    faults.edit_weights(
        saved, lambda t: {k.replace(within, within + prefix): tensor for k, tensor in t.items()}
    )
    assert f"16 weights under the prefix '{prefix.split('.')[0]}.'" in refusal(saved)


@pytest.mark.parametrize(
    "key",
    [
        "bert.encoder.layer.0.attention.gate.weight",
        "bert.embeddings.character_embeddings.weight",
        "bert.pooler.dense.extra",
        "classifier.dense.weight",
        "score.weight",
        "bert.encoder.layer.0.adapter.weight",
    ],
)
def test_a_trained_part_that_would_be_dropped_is_refused(saved: Path, key: str) -> None:
    faults.edit_weights(saved, lambda t: {**t, key: torch.ones(24)})
    assert f"BertForSequenceClassification has no place for {key}: " in refusal(saved)


HARMLESS = {
    "bert": ("cls.predictions.bias", "cls.seq_relationship.weight", "bert.embeddings.position_ids"),
    "roberta": ("lm_head.dense.weight", "roberta.pooler.dense.weight"),
    "distilbert": ("vocab_transform.weight", "vocab_projector.bias"),
    "electra": ("discriminator_predictions.dense.weight",),
    "albert": ("predictions.bias", "sop_classifier.classifier.weight"),
    "deberta-v2": ("lm_predictions.lm_head.dense.weight", "mask_predictions.classifier.weight"),
    "modernbert": ("decoder.bias",),
    "gpt2": ("lm_head.weight", "transformer.h.0.attn.masked_bias"),
    "llama": ("lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"),
    "vit": ("vit.pooler.dense.weight", "vit.embeddings.mask_token"),
}


@pytest.mark.parametrize("name", few(HARMLESS, ["bert", "roberta"], zoo.MATRIX))
def test_heads_of_pre_training_are_named_and_no_more(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Constants that transformers itself knows to be left out need not be named."""
    saved, keys = faults.copied(name, tmp_path), HARMLESS[name]
    plain = load_pretrained(str(saved))
    faults.edit_weights(saved, lambda t: {**t, **{key: torch.ones(3) for key in keys}})
    with caplog.at_level(logging.WARNING, "calig"):
        explainer = Explainer.from_pretrained(saved)
    told = [record.getMessage() for record in caplog.records]
    assert told == list(explainer.pretrained.notes)
    assert len(told) == 1
    named = [key for key in keys if not key.endswith(("position_ids", "inv_freq"))]
    assert all(key in told[0] for key in named)
    assert fingerprint(explainer.pretrained) == fingerprint(plain), "what is not read is no part of the model"


def test_a_missing_weight_that_is_not_read_is_named_and_always_the_same(tmp_path: Path) -> None:
    """A random number in its place would change the hash from one load to the next."""
    saved = faults.copied("roberta", tmp_path)

    class Unread(transformers.RobertaForSequenceClassification):
        def __init__(self, config: transformers.RobertaConfig) -> None:
            super().__init__(config)
            self.unread = torch.nn.Linear(2, 2)
            self.post_init()

    mapping = transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    faults.configure(saved, architectures=["Unread", "RobertaForSequenceClassification"])
    with patch.dict(mapping._extra_content, {transformers.RobertaConfig: Unread}):
        found = [load_pretrained(str(saved)) for _ in range(2)]
    assert len({fingerprint(one) for one in found}) == 1
    assert found[0].notes == (
        f"model.id: {saved}: it lacks unread.bias, unread.weight, which Unread has and does not read to classify",
    )
    assert not found[0].model.unread.weight.isfinite().any()


def test_a_missing_block_is_told_from_a_missing_head(saved: Path) -> None:
    faults.edit_weights(saved, lambda t: {k: v for k, v in t.items() if "layer.2." not in k})
    message = refusal(saved)
    assert "lacks the weights bert.encoder.layer.2." in message
    assert "and 13 more" in message
    assert "the rest would be random numbers" in message


def test_shapes_are_named(saved: Path) -> None:
    faults.configure(saved, id2label={"0": "no", "1": "yes"}, label2id={"no": 0, "yes": 1})
    assert (
        "other shapes of 2 weights: classifier.bias (3,) for (2,), classifier.weight (3, 24) for (2, 24)"
        in (refusal(saved))
    )
