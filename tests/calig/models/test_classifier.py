"""The classifier entered at any depth gives the model's own answers, and is left as it was found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from calig.errors import InputError
from calig.models.classifier import Classifier
from calig.models.inputs import Batch
from calig.models.text import TextEncoder
from tests.material import zoo
from tests.material.tiers import few


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """To rounding: where the head reads one row, the last block is run for that row alone."""
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def prepared(name: str, fresh: bool = False) -> tuple[Any, Classifier, Batch]:
    """A model, its classifier and a batch: those that all tests share, or fresh ones, for tests that change them."""
    pretrained = zoo.load(name) if fresh else zoo.shared(name)
    encoder = TextEncoder(pretrained.model, pretrained.tokenizer)
    batch = encoder.batch(encoder.encode(zoo.TEXTS), pretrained.model.device)
    return pretrained, Classifier(pretrained.model) if fresh else zoo.classifier(name), batch


@pytest.mark.parametrize("name", few(zoo.TEXT_FAMILIES, zoo.QUICK, zoo.MATRIX))
class TestEveryFamily:
    def test_a_run_gives_the_model_s_own_logits(self, name: str) -> None:
        pretrained, classifier, batch = prepared(name)
        own = pretrained.model(**zoo.inputs(pretrained, zoo.TEXTS)).logits
        assert torch.equal(classifier.run(batch).logits, own)

    def test_states_are_the_model_s_hidden_states(self, name: str) -> None:
        """On a fresh model: once asked for hidden states, transformers leaves hooks in it."""
        pretrained, classifier, batch = prepared(name, fresh=True)
        states = classifier.run(batch).states
        own = pretrained.model(**zoo.inputs(pretrained, zoo.TEXTS), output_hidden_states=True).hidden_states
        assert classifier.depth == zoo.BLOCKS
        assert classifier.heads == zoo.HEADS
        assert len(states) == zoo.BLOCKS + 1
        norm = zoo.TEXT_FAMILIES[name].norm
        if norm:
            states[-1] = pretrained.model.get_submodule(norm)(states[-1])
        if len(own) == 1:  # ALBERT keeps the last state alone
            states = states[-1:]
        for mine, theirs in zip(states, own, strict=True):
            assert torch.equal(mine, theirs)

    def test_entering_at_any_depth_is_the_whole_forward(self, name: str) -> None:
        _, classifier, batch = prepared(name)
        whole = classifier.run(batch)
        for depth in range(classifier.depth + 1):
            close(classifier.run_from(depth, whole.states[depth], batch), whole.logits)

    def test_entering_works_before_anything_was_run(self, name: str) -> None:
        _, first, batch = prepared(name)
        states = first.run(batch).states
        _, fresh, _ = prepared(name, fresh=True)
        close(fresh.run_from(1, states[1], batch), first.run(batch).logits)

    def test_what_lies_below_the_entered_depth_is_not_used(self, name: str) -> None:
        pretrained, classifier, batch = prepared(name, fresh=True)
        whole = classifier.run(batch)
        if zoo.TEXT_FAMILIES[name].written_out is None:
            for parameter in classifier.blocks[0].parameters():
                parameter.data.fill_(float("nan"))
        pretrained.model.get_input_embeddings().weight.data.fill_(float("nan"))
        close(classifier.run_from(1, whole.states[1], batch), whole.logits)

    def test_a_baseline_changes_content_embeddings_alone(self, name: str) -> None:
        pretrained, classifier, batch = prepared(name)
        family = zoo.TEXT_FAMILIES[name]
        given = zoo.inputs(pretrained, zoo.TEXTS)
        content = batch.content
        padded = torch.where(content, family.pad, given["input_ids"])
        numbers = zoo.positions(family, given["input_ids"], given["attention_mask"])
        own = zoo.answer(family, pretrained.model, padded, given["attention_mask"], numbers)
        base = classifier.run(batch, classifier.word_embedding(family.pad))
        torch.testing.assert_close(base.logits, own, rtol=1e-12, atol=1e-12)

    def test_captured_attention_gives_the_same_logits_and_rows_that_sum_to_one(self, name: str) -> None:
        _, classifier, batch = prepared(name)
        whole = classifier.run(batch)
        found = classifier.run(batch, attention=True)
        torch.testing.assert_close(found.logits, whole.logits, rtol=1e-10, atol=1e-12)
        assert len(found.probabilities) == zoo.BLOCKS
        for block in found.probabilities:
            assert block.shape == (len(zoo.TEXTS), zoo.HEADS, *batch.mask.shape[1:] * 2)
            for row, length in zip(block.detach(), batch.mask.sum(1).tolist(), strict=True):
                seen = row[:, :length]  # what padding itself sees is seen by nothing
                torch.testing.assert_close(seen.sum(-1), torch.ones_like(seen.sum(-1)))
                assert (seen[:, :, length:] == 0).all()
                assert not zoo.TEXT_FAMILIES[name].causal or (seen.triu(1) == 0).all()

    def test_the_model_is_left_as_it_was_found(self, name: str) -> None:
        pretrained, classifier, batch = prepared(name, fresh=True)
        before = zoo.condition(pretrained.model)
        whole = classifier.run(batch, classifier.word_embedding(None))
        classifier.run_from(2, whole.states[2], batch)
        classifier.run(batch, attention=True)
        assert zoo.condition(pretrained.model) == before

    def test_the_model_is_left_as_it_was_found_by_an_exception(self, name: str) -> None:
        pretrained, classifier, batch = prepared(name, fresh=True)
        whole = classifier.run(batch)
        before = zoo.condition(pretrained.model)

        def fail(*_: Any) -> None:
            raise RuntimeError("in the last block")

        handle = classifier.blocks[-1].register_forward_hook(fail)
        baseline = classifier.word_embedding(None)
        for attempt in (
            lambda: classifier.run(batch, baseline),
            lambda: classifier.run_from(1, whole.states[1], batch),
            lambda: classifier.run(batch, attention=True),
        ):
            with pytest.raises(RuntimeError, match="in the last block"):
                attempt()
        handle.remove()
        assert zoo.condition(pretrained.model) == before
        assert torch.equal(classifier.run(batch).logits, whole.logits)


@pytest.mark.parametrize(
    "name",
    few([n for n, f in zoo.TEXT_FAMILIES.items() if f.numbers == "padding"], ["roberta"], zoo.MATRIX),
)
def test_a_naive_pad_baseline_would_scramble_roberta_s_positions(name: str) -> None:
    """The trap: with content replaced by pad ids, the model itself numbers other positions."""
    pretrained, classifier, batch = prepared(name)
    given, pad = zoo.inputs(pretrained, zoo.TEXTS), zoo.TEXT_FAMILIES[name].pad
    naive = {**given, "input_ids": torch.where(batch.content, pad, given["input_ids"])}
    trapped = pretrained.model(**naive).logits
    base = classifier.run(batch, classifier.word_embedding(pad)).logits
    assert (trapped - base).abs().max() > 0.01 * base.abs().max()


def test_a_model_whose_blocks_cannot_be_told_is_refused() -> None:
    pretrained = zoo.load("bert")
    pretrained.model.config.num_hidden_layers = 7
    with pytest.raises(
        InputError, match=r"model\.id: cannot tell the blocks of BertForSequenceClassification"
    ) as e:
        Classifier(pretrained.model)
    assert "\n" not in str(e.value)


def test_two_lists_of_blocks_are_refused() -> None:
    pretrained = zoo.load("bert")
    pretrained.model.twin = nn.ModuleList([nn.Identity()] * zoo.BLOCKS)
    with pytest.raises(InputError, match="found 2"):
        Classifier(pretrained.model)


def test_the_word_embedding_is_the_table_s_row_or_zero() -> None:
    pretrained, classifier, _ = prepared("electra")
    table = pretrained.model.electra.embeddings.word_embeddings.weight
    assert torch.equal(classifier.word_embedding(7), table[7])
    assert torch.equal(classifier.word_embedding(None), torch.zeros(16, dtype=torch.float64))
