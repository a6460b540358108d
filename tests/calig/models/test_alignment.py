"""Tokens without offsets are found in their text, in one way, or the document is a failure that says so."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from calig.attribution.explainer import Explainer
from calig.errors import DocumentError
from calig.models.alignment import find
from calig.models.loading import fingerprint, load_pretrained
from calig.records import Failure
from tests.material import zoo
from tests.material.fuzz import examples

RESIDUES = "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> <mask>"
CODES = "#version: 0.2\ng o 1\no d</w> 1\nfi l 1\nf i 1\n"


def saved(folder: Path, stem: str, rows: int, tokenizer: str, **files: str) -> Path:
    """A random classifier with a tokenizer of Python's alone, as the hub has it."""
    sizes = zoo.texts.sizes(max_position_embeddings=40, vocab_size=rows, pad_token_id=1, num_labels=3)()
    more = {"position_embedding_type": "rotary", "mask_token_id": 32} if stem == "Esm" else {}
    config = getattr(transformers, f"{stem}Config")(**sizes, **more, initializer_range=0.25)
    getattr(transformers, f"{stem}ForSequenceClassification")(config).save_pretrained(folder)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    settings = {"tokenizer_class": tokenizer, "model_max_length": 38}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def esm(tmp_path: Path) -> Path:
    return saved(tmp_path / "esm", "Esm", 33, "EsmTokenizer", vocab_txt="\n".join(RESIDUES.split()))


@pytest.fixture
def bertweet(tmp_path: Path) -> Path:
    pieces = [*"abcdefghijklmnopqrstuvwxyz", "go@@", "od", "@USER", "HTTPURL"]
    pieces += [f"{letter}@@" for letter in "abcdefghijklmnopqrstuvwxyz"]
    files = {"vocab_txt": "\n".join(f"{piece} 1" for piece in pieces), "bpe_codes": CODES}
    return saved(tmp_path / "bertweet", "Roberta", 70, "BertweetTokenizer", **files)


def test_a_protein_is_explained_residue_by_residue(esm: Path) -> None:
    (found,) = Explainer.from_pretrained(esm, tolerance=1e-3, baseline="mask").explain(["MKTAYIAK QR"])
    assert found.tokens == ["<cls>", *"MKTAYIAKQR", "<eos>"]
    assert found.char_spans[1:-1].tolist() == [[i, i + 1] for i in (*range(8), 9, 10)]
    assert found.is_special.tolist() == [True, *[False] * 10, True]
    assert found.converged.all()
    assert np.allclose(found.layer_ig.sum(1), found.logit - found.baseline_logit, atol=2e-3)


def test_a_tweet_has_the_tokenizer_s_ids_and_its_own_places(bertweet: Path) -> None:
    text = "good fílm , a"
    encoder = Explainer.from_pretrained(bertweet).engine.encoder
    (encoded,) = encoder.encode([text])  # type: ignore[attr-defined]
    tokenizer = AutoTokenizer.from_pretrained(bertweet)
    assert encoded.ids.tolist() == tokenizer(text)["input_ids"]
    pieces = [text[start:end] for start, end in encoded.char_spans[1:-1]]
    assert "".join(pieces) == text.replace(" ", "")
    assert pieces[0] == "go"
    assert encoded.word_ids[1] == encoded.word_ids[2]


def test_pairs_and_long_texts_are_cut_as_the_tokenizer_cuts_them(esm: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(esm)
    encoder = Explainer.from_pretrained(esm).engine.encoder
    for texts in (("MKTA" * 30,), ("MKTA" * 3, "LAGV" * 3), ("MKTA" * 30, "LAG")):
        (encoded,) = encoder.encode([texts if len(texts) > 1 else texts[0]])  # type: ignore[attr-defined]
        usual = tokenizer(*texts, truncation="longest_first", max_length=38)
        assert encoded.ids.tolist() == usual["input_ids"]
        assert encoded.truncated == (len("".join(texts)) > 36)
        for place in np.flatnonzero(~encoded.is_special):
            start, end = encoded.char_spans[place]
            assert texts[encoded.segments[place]][start:end] == encoded.tokens[place]


def test_a_text_that_cannot_be_aligned_is_a_failure_and_the_others_go_on(bertweet: Path) -> None:
    explainer = Explainer.from_pretrained(bertweet, steps=4)
    tokenizer = explainer.pretrained.tokenizer
    usual = type(tokenizer).tokenize

    def forgetful(self: Any, text: str, **kwargs: Any) -> list[str]:
        return [piece for piece in usual(self, text, **kwargs) if piece != "x"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(tokenizer), "tokenize", forgetful)
        good, bad = explainer.attribute(zoo.documents(["a good film", "a x film"]))
    assert not isinstance(good, Failure)
    assert isinstance(bad, Failure)
    assert (bad.reason, bad.detail) == (
        "unaligned",
        "its tokens cannot be found in it as the tokenizer gives them, and have no place there",
    )


def test_the_fingerprint_is_that_of_the_vocabulary(esm: Path) -> None:
    first = fingerprint(load_pretrained(str(esm)))
    assert first == fingerprint(load_pretrained(str(esm.rename(esm.with_name("elsewhere")))))
    moved = esm.with_name("elsewhere")
    (moved / "vocab.txt").write_text((moved / "vocab.txt").read_text().replace("L\nA", "A\nL"))
    assert fingerprint(load_pretrained(str(moved))) != first


@pytest.mark.parametrize(
    ("text", "pieces", "spans"),
    [
        ("Good film", ["good", "film"], [(0, 4), (5, 9)]),
        ("e\u0301a fi", ["e", "a", "fi"], [(0, 2), (2, 3), (4, 6)]),
        ("going on", ["go@@", "ing", "on"], [(0, 2), (2, 5), (6, 8)]),
        ("going on", ["go", "##ing", "on"], [(0, 2), (2, 5), (6, 8)]),
        ("going on", ["go", "ing</w>", "on</w>"], [(0, 2), (2, 5), (6, 8)]),
        ("▁a b", ["▁a", "▁b"], [(0, 2), (3, 4)]),
        ("hi @jack yes", ["hi", "@USER", "yes"], [(0, 2), (3, 8), (9, 12)]),
        ("a 猫 b", ["a", "<unk>", "b"], [(0, 1), (2, 3), (4, 5)]),
        ("", [], []),
    ],
)
def test_tokens_are_found(text: str, pieces: list[str], spans: list[tuple[int, int]]) -> None:
    assert find(text, pieces, "<unk>") == spans


@pytest.mark.parametrize(
    ("text", "pieces", "said"),
    [
        ("a b", ["a"], "as the tokenizer gives them"),
        ("a", ["a", "b"], "as the tokenizer gives them"),
        ("xaaa", ["<unk>", "a", "<unk>"], "in more than one way"),
    ],
)
def test_what_is_not_found_or_twice_is_said(text: str, pieces: list[str], said: str) -> None:
    with pytest.raises(DocumentError, match=said) as caught:
        find(text, pieces, "<unk>")
    assert caught.value.reason == "unaligned"


@given(st.lists(st.text("abcdé ", min_size=1, max_size=6), max_size=6))
@examples(100)
def test_any_text_cut_anywhere_is_found_again(parts: list[str]) -> None:
    text = "".join(parts)
    kept = [part for part in parts if part.strip()]
    found = find(text, [part.upper() for part in kept], None)
    assert [text[start:end].strip() for start, end in found] == [part.strip() for part in kept]


def test_no_warning_of_the_tokenizer_s_own_is_shown(esm: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_pretrained(str(esm))
