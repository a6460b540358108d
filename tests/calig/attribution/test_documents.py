"""One bad document is told apart from the others; memory that runs out costs time and nothing else."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from calig.attribution.explainer import Explainer
from calig.errors import DocumentError
from calig.models.classifier import Classifier
from calig.models.inputs import Batch
from calig.records import Attribution, Document, Failure, document_key
from tests.material import zoo
from tests.material.tiers import few

MANY = (*zoo.TEXTS, "good", "not bad", "a dull film")


def documents(*texts: str) -> list[Document]:
    return [Document(document_key(text), text) for text in texts]


class TestFailures:
    @pytest.mark.parametrize("name", few(zoo.TEXT_FAMILIES, zoo.QUICK, zoo.MATRIX))
    @pytest.mark.parametrize("text", ["", "   ", "\n\t"])
    def test_an_empty_text_fails_alone(self, name: str, text: str) -> None:
        explainer = zoo.explainer(name, steps=6)
        good, bad = explainer.attribute(documents("a good film", text))
        assert isinstance(good, Attribution)
        if isinstance(bad, Failure):  # some tokenizers make a token of spaces
            assert (bad.key, bad.reason, bad.detail) == (document_key(text), "empty", "the text is empty")
            with pytest.raises(DocumentError, match=r"^text 1: the text is empty$") as caught:
                explainer.explain(["a good film", text])
            assert caught.value.reason == "empty"
        assert isinstance(bad, Failure) or (text and zoo.TEXT_FAMILIES[name].tokenizer.spaces)

    def test_a_text_without_tokens_fails(self) -> None:
        (bad,) = zoo.explainer("bert").attribute(documents("\u200d\ufeff"))
        assert isinstance(bad, Failure)
        assert (bad.reason, bad.detail) == ("empty", "the tokenizer finds no token in it")

    def test_half_a_surrogate_pair_fails_alone(self) -> None:
        bad, good = zoo.explainer("bert", steps=6).attribute(documents("good \ud83d film", "good film"))
        assert isinstance(bad, Failure)
        assert bad.reason == "undecodable"
        assert isinstance(good, Attribution)

    @pytest.mark.parametrize("name", few(zoo.TEXT_FAMILIES, zoo.QUICK, zoo.MATRIX))
    @pytest.mark.parametrize("poison", [float("nan"), float("inf")])
    def test_an_output_that_is_not_finite_leaves_the_others_alone(self, name: str, poison: float) -> None:
        texts = ["a good film", "warm , warm", "not bad"]
        pretrained = zoo.load(name)
        clean = zoo.explainer(name, steps=12).explain(texts[::2])
        table = pretrained.model.get_input_embeddings().weight
        kept = {i for t in (texts[0], texts[2]) for i in pretrained.tokenizer(t)["input_ids"]}
        lost = [i for i in pretrained.tokenizer(texts[1])["input_ids"] if i not in kept]
        table.data[lost[0]] = poison
        explainer = zoo.explainer(name, pretrained=pretrained, steps=12)
        first, bad, last = explainer.attribute(documents(*texts))
        assert isinstance(bad, Failure)
        assert (bad.reason, bad.detail) == (
            "non-finite",
            "the model's output on this text is NaN or infinite",
        )
        for a, b in zip((first, last), clean, strict=True):
            assert isinstance(a, Attribution)
            np.testing.assert_allclose(a.layer_ig, b.layer_ig, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(a.context, b.context, rtol=1e-5, atol=1e-7)
        with pytest.raises(DocumentError, match=r"^text 1: the model's output"):
            explainer.explain(texts)

    def test_a_baseline_that_is_not_finite_fails_every_document(self) -> None:
        pretrained = zoo.load("roberta")
        table = pretrained.model.get_input_embeddings().weight
        table.data[pretrained.tokenizer.mask_token_id] = float("nan")
        found = zoo.explainer("roberta", pretrained=pretrained, steps=6, baseline="mask").attribute(
            documents("good", "bad")
        )
        assert [f.reason for f in found if isinstance(f, Failure)] == ["non-finite"] * 2

    @pytest.mark.parametrize("name", few(zoo.TEXT_FAMILIES, zoo.QUICK, zoo.MATRIX))
    def test_a_long_text_is_cut_and_says_so(self, name: str) -> None:
        long, short = zoo.explainer(name, steps=6).explain(["not bad , " * 60, "not bad"])
        assert (long.truncated, len(long.tokens)) == (True, zoo.POSITIONS)
        spelling = zoo.TEXT_FAMILIES[name].tokenizer
        assert long.is_special.sum() == spelling.before + spelling.after
        assert not short.truncated
        (cut,) = zoo.explainer(name, steps=6, max_length=4).explain(["a a a a a"])
        assert (cut.truncated, len(cut.tokens)) == (True, 4)

    def test_progress_counts_every_document_once(self) -> None:
        seen: list[int] = []
        explainer = zoo.explainer("bert", steps=6, token_budget=2)
        explainer.attribute(documents("a", "", "b", "a good film", " "), progress=seen.append)
        assert sum(seen) == 5
        assert len(seen) > 2


@cache
def with_memory_enough() -> list[Attribution]:
    """What comes of `MANY`; not to be changed."""
    return zoo.explainer("roberta", steps=6).explain(MANY)


class TestMemory:
    """Out of memory is acted out: passes of more rows than fit raise what torch would."""

    @pytest.fixture
    def texts(self) -> list[str]:
        return list(MANY)

    def limit(
        self, monkeypatch: pytest.MonkeyPatch, rows: int, error: type[Exception] | Exception, where: str
    ) -> list[int]:
        """Let passes of a kind fail above so many rows; returns the sizes that passed.

        `input`: those that keep attention; `baseline`: the other whole ones; `path`: those that enter the model.
        """
        passed: list[int] = []
        name = "run_from" if where == "path" else "run"
        original = getattr(Classifier, name)

        def limited(self: Classifier, *args: Any, **kwargs: Any) -> Any:
            batch = next(a for a in args if isinstance(a, Batch))
            if where == "path" or bool(kwargs.get("attention")) == (where == "input"):
                if len(batch.mask) > rows:
                    raise error
                passed.append(len(batch.mask))
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Classifier, name, limited)
        return passed

    @pytest.mark.parametrize("rows", few([1, 3], [1], "every error, at more than a row"))
    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory."),
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        ],
    )
    @pytest.mark.parametrize("where", ["input", "baseline", "path"])
    def test_it_halves_and_gives_the_same(
        self,
        where: str,
        error: Exception,
        rows: int,
        texts: list[str],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with_memory_enough()  # computed before memory is short
        explainer = zoo.explainer("roberta", steps=6)
        passed = self.limit(monkeypatch, rows, error, where)
        with caplog.at_level(logging.WARNING):
            found = explainer.explain(texts)
        assert max(passed) <= rows
        assert any("out of memory: going on with" in record.message for record in caplog.records)
        for a, b in zip(found, with_memory_enough(), strict=True):
            assert a.target == b.target
            np.testing.assert_allclose(a.layer_ig, b.layer_ig, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(a.context, b.context, rtol=1e-5, atol=1e-7)
        warned = len(caplog.records)
        caplog.clear()
        explainer.explain(texts)
        assert len(caplog.records) < warned, "the smaller budget is kept"

    def test_targets_stay_with_their_texts(self, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        explainer = zoo.explainer("bert", steps=6)
        self.limit(monkeypatch, 3, torch.OutOfMemoryError("CUDA out of memory."), "input")
        targets = [i % 3 for i in range(len(texts))]
        assert [a.target for a in explainer.explain(texts, targets)] == targets

    def test_attention_that_does_not_fit_leaves_the_token_budget(
        self, texts: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        explainer = zoo.explainer("bert", steps=6)
        before = explainer.engine.passes.token_budget
        self.limit(monkeypatch, 2, torch.OutOfMemoryError("CUDA out of memory."), "input")
        explainer.explain(texts)
        assert explainer.engine.passes.token_budget == before

    @pytest.mark.parametrize("where", ["input", "baseline", "path"])
    def test_a_single_row_that_does_not_fit_is_an_error(
        self, where: str, texts: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        explainer = zoo.explainer("bert", steps=6)
        self.limit(monkeypatch, 0, torch.OutOfMemoryError("CUDA out of memory."), where)
        with pytest.raises(torch.OutOfMemoryError):
            explainer.explain(texts)

    @pytest.mark.parametrize("where", ["input", "baseline", "path"])
    def test_other_errors_are_those_of_documents(
        self, where: str, texts: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those of a batch are looked for in each document alone, and are no lack of memory."""
        explainer = zoo.explainer("bert", steps=6)
        expected = explainer.explain(texts)
        with monkeypatch.context() as patched:
            alone = 4 if where == "path" else 1  # of six nodes, the ends cost no row
            self.limit(patched, alone, RuntimeError("a shape does not fit"), where)
            for a, b in zip(explainer.explain(texts), expected, strict=True):
                np.testing.assert_allclose(a.layer_ig, b.layer_ig, atol=1e-9)
        self.limit(monkeypatch, 0, RuntimeError("a shape does not fit"), where)
        with pytest.raises(
            DocumentError, match=r"^text 0: explaining it raised RuntimeError: a shape does not"
        ):
            explainer.explain(texts)

    def test_no_pass_exceeds_the_budget(self, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        sizes: list[int] = []
        original = Classifier.run_from

        def watched(self: Classifier, depth: int, state: torch.Tensor, batch: Batch) -> torch.Tensor:
            sizes.append(batch.mask.numel())
            return original(self, depth, state, batch)

        monkeypatch.setattr(Classifier, "run_from", watched)
        explainer: Explainer = zoo.explainer("bert", steps=24, token_budget=60)
        explainer.explain(texts)
        assert max(sizes) <= 60
        assert len(sizes) > 10
