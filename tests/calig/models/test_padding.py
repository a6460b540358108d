"""In any batch a text gets the model's own answer for that text alone, whatever its tokenizer does about padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from calig.attribution.explainer import Explainer
from calig.errors import InputError
from calig.models.classifier import Classifier
from calig.models.loading import Pretrained, load_pretrained
from calig.models.text import TextEncoder, free_id
from tests.material import zoo
from tests.material.tiers import few

NAMES = ("bert", "roberta", "mpnet", "gpt2", "llama", "qwen2")
VARIANTS = ("bare", "pad is eos", "no pad", "left", "another pad", "ends in pad")
CONFIGURED = ("as it was", "none", "out of range")


def varied(name: str, variant: str, configured: str = "as it was") -> Pretrained:
    """A model of the zoo whose tokenizer, or whose configured padding, is of another kind."""
    pretrained = zoo.load(name)
    tokenizer, spelling = pretrained.tokenizer, zoo.TEXT_FAMILIES[name].tokenizer
    if variant == "bare":
        tokenizer.backend_tokenizer.post_processor = zoo.texts.in_tokens("$A")
    elif variant == "pad is eos":
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.sep_token
    elif variant == "no pad":
        tokenizer.pad_token = None
    elif variant == "left":
        tokenizer.padding_side = tokenizer.truncation_side = "left"
    elif variant == "another pad":
        tokenizer.pad_token = tokenizer.unk_token
    elif spelling.make is not zoo.texts.WORDPIECE.make:  # the last token of every text is the one that pads
        tokenizer.backend_tokenizer.post_processor = zoo.texts.in_tokens("$A </s>")
        tokenizer.pad_token = "</s>"
        if zoo.TEXT_FAMILIES[name].causal:
            pretrained.model.config.pad_token_id = 2
    if configured != "as it was":
        pretrained.model.config.pad_token_id = {"none": None, "out of range": -1}[configured]
    return pretrained


def alone(pretrained: Pretrained, text: str) -> torch.Tensor:
    """The model's own answer for one text, unpadded."""
    return pretrained.model(**pretrained.tokenizer(text, return_tensors="pt")).logits[0]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", few(NAMES, zoo.QUICK, zoo.MATRIX))
class TestVariants:
    def test_every_row_is_the_model_s_answer_for_the_text_alone(self, name: str, variant: str) -> None:
        for configured in CONFIGURED:
            pretrained = varied(name, variant, configured)
            classifier = Classifier(pretrained.model)
            encoder = TextEncoder(pretrained.model, pretrained.tokenizer)
            batch = encoder.batch(encoder.encode(zoo.TEXTS), pretrained.model.device)
            before = pretrained.model.config.to_dict()
            whole = classifier.run(batch)
            for row, text in enumerate(zoo.TEXTS):
                own = alone(pretrained, text)
                torch.testing.assert_close(whole.logits[row], own, rtol=1e-9, atol=1e-10)
                torch.testing.assert_close(
                    classifier.run(batch.rows(torch.tensor([row, row]), batch.mask.shape[1])).logits[1],
                    own,
                    rtol=1e-9,
                    atol=1e-10,
                )
            for depth, state in enumerate(whole.states):
                entered = classifier.run_from(depth, state, batch)
                torch.testing.assert_close(entered, whole.logits, rtol=1e-12, atol=1e-13)
            assert pretrained.model.config.to_dict() == before

    def test_explanations_are_complete_and_do_not_depend_on_company(self, name: str, variant: str) -> None:
        pretrained = varied(name, variant, "none" if variant == "no pad" else "as it was")
        explainer = zoo.explainer(name, pretrained=pretrained, baseline="token:a", steps=54, rule="midpoint")
        texts = ["a good film", "dull , never warm , not great .", "brilliant !"]
        for text, a in zip(texts, explainer.explain(texts), strict=True):
            (b,) = explainer.explain([text])
            np.testing.assert_allclose(a.layer_ig, b.layer_ig, atol=2e-6)
            assert a.logit == pytest.approx(float(alone(pretrained, text).max()), abs=1e-9)
            specials = 0 if variant == "bare" else pretrained.tokenizer.num_special_tokens_to_add()
            assert a.is_special.sum() == specials
            total = a.layer_ig.sum(axis=1, dtype=np.float64)
            gross = np.abs(a.layer_ig).sum(axis=1)
            assert (np.abs(total - (a.logit - a.baseline_logit)) < 0.05 * np.maximum(gross, 0.1)).all()


@pytest.mark.parametrize(
    "name", few([n for n, f in zoo.TEXT_FAMILIES.items() if f.causal], zoo.QUICK, zoo.MATRIX)
)
def test_our_right_padding_answers_as_the_model_s_own_left_padding(name: str) -> None:
    """With positions counted over the mask, as generation does."""
    family = zoo.TEXT_FAMILIES[name]
    pretrained = varied(name, "left")
    given = zoo.inputs(pretrained, zoo.TEXTS)
    assert (given["attention_mask"][:, 0] == 0).any()
    if family.numbers == "index":
        given["position_ids"] = (given["attention_mask"].cumsum(1) - 1).clamp(min=0)
    own = pretrained.model(**given).logits
    encoder = TextEncoder(pretrained.model, pretrained.tokenizer)
    batch = encoder.batch(encoder.encode(zoo.TEXTS), pretrained.model.device)
    ours = Classifier(pretrained.model).run(batch).logits
    torch.testing.assert_close(ours, own, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", few(["gpt2", "llama", "opt"], ["gpt2"], zoo.MATRIX))
def test_a_naive_pad_baseline_would_pool_another_row(name: str) -> None:
    """The trap: with content replaced by pad ids, a decoder's head reads the first token."""
    pretrained = zoo.shared(name)
    pad = pretrained.model.config.pad_token_id
    explainer = zoo.explainer(name, steps=12)
    (a,) = explainer.explain(["a good film"])
    given = zoo.inputs(pretrained, ["a good film"])
    ids = given["input_ids"].where(torch.from_numpy(a.is_special), pad)
    trapped = pretrained.model(input_ids=ids, attention_mask=given["attention_mask"]).logits[0, a.target]
    embeds = pretrained.model.get_input_embeddings()(ids)
    own = pretrained.model(inputs_embeds=embeds, attention_mask=given["attention_mask"]).logits[0, a.target]
    assert a.baseline_logit == pytest.approx(float(own), abs=1e-9)
    assert abs(float(trapped) - float(own)) > 1e-3


def test_a_pad_baseline_without_a_pad_token_is_the_configuration_s() -> None:
    expected = zoo.explainer("roberta", steps=6).explain(["a good film"])[0].baseline_logit
    pretrained = varied("roberta", "no pad")
    found = zoo.explainer("roberta", pretrained=pretrained, steps=6).explain(["a good film"])[0]
    assert found.baseline_logit == pytest.approx(expected, abs=1e-12)
    pretrained = varied("gpt2", "no pad", "none")
    with pytest.raises(
        InputError, match=r"^method\.baseline: the tokenizer has no pad token; use zero or token"
    ):
        Explainer(pretrained)


def test_token_types_that_share_the_word_table_are_not_content(tmp_path: Path) -> None:
    """GPT-2 looks token types up among the words."""
    pretrained = zoo.load("gpt2")
    pretrained.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    explainer = zoo.explainer("gpt2", pretrained=pretrained, steps=6, baseline="zero")
    (a,) = explainer.explain(["good"])
    types = torch.zeros((1, len(a.tokens)), dtype=torch.long)
    embeds = torch.zeros((1, len(a.tokens), zoo.HIDDEN), dtype=torch.float64)
    own = pretrained.model(inputs_embeds=embeds, token_type_ids=types).logits[0, a.target]
    assert a.baseline_logit == pytest.approx(float(own), abs=1e-12)


def test_a_batch_that_uses_every_id_cannot_be_padded() -> None:
    assert free_id({0, 1, 3}, 5) == 2
    with pytest.raises(InputError, match=r"^model\.id: its config\.json has no pad_token_id"):
        free_id({0, 1, 2}, 3)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_saved_model_without_any_padding_loads_and_explains(name: str, tmp_path: Path) -> None:
    zoo.save(name, tmp_path, pad_token_id=None)
    pretrained = load_pretrained(str(tmp_path), dtype="float64")
    pretrained.tokenizer.pad_token = None
    found = zoo.explainer(name, pretrained=pretrained, steps=6, baseline="token:a").explain(list(zoo.TEXTS))
    for text, a in zip(zoo.TEXTS, found, strict=True):
        np.testing.assert_allclose(a.logits, alone(pretrained, text).numpy(), rtol=1e-5, atol=1e-6)
