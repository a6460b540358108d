"""Whatever the tokenizer: the words are the text, and a document's relevance is that of its words and the rest.

Of every text: its words joined are the text without white space, without what no token covers, and without what was
cut; each character is of exactly one of these kinds.
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from calig.models.text import EncodedText, TextEncoder
from calig.words import align, word_spans
from tests.material import every_tokenizer
from tests.material.tiers import extended

BUILT = [name for name in every_tokenizer.NAMES if name not in every_tokenizer.CANNOT]
TEXTS = (
    "a good film, never a bad film",
    "A BAD film:  don't\n\nit's 3.5 well-known",
    "é e\u0301 ß ﬁ İ naïve привет שלום 한국어 नमस्ते",
    "我用AI写 カメラ ภาษาไทย か\u3099",
    "👨\u200d👩\u200d👧 🇩🇪🇫🇷 👍🏽 x\u200by \x00z\x07 \u00ad a\u2028b\u00a0c",
    "[SEP] <s> </s> film</s>film <pad> [MASK]",
)
CHARACTERS = st.one_of(
    st.sampled_from("abdfilmgoe ,'.\n"),
    st.sampled_from(
        " \u00a0\u3000\u2028\t\x00\x1f\u200b\u200c\u200d\u200e\u00ad\ufeff\u0301\u0e31字我カกःชशא한éİﬁ🇩👍🏽👩①½"
    ),
    st.characters(exclude_categories=("Cs",)),
)
EXAMPLES = st.text(CHARACTERS, min_size=1, max_size=40)


class Model(nn.Module):
    """What an encoder asks of a model: its configuration and its embedding."""

    def __init__(self, ids: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(pad_token_id=0))
        self.embedding = nn.Embedding(ids, 1)

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding


def encoder(name: str, max_length: int | None = None) -> TextEncoder:
    tokenizer = every_tokenizer.tokenizer(name)
    return TextEncoder(cast(Any, Model(len(tokenizer))), tokenizer, max_length)


def check(text: str, encoded: EncodedText, encoding: Any) -> Counter[str]:
    """Check one text, whose `encoding` is the tokenizer's own; count what its characters are."""
    found = align(
        [text], np.zeros(1, int), encoded.segments, encoded.char_spans, np.array([encoded.truncated])
    )
    words = dict(
        zip(found.word.tolist(), zip(found.start.tolist(), found.end.tolist(), strict=True), strict=True)
    )
    spans = [words[number] for number in range(len(words))]
    of_words = [c for start, end in spans for c in range(start, end)]
    assert of_words == sorted(set(of_words)), "words are in the order of the text, and do not overlap"
    assert all(start < end and not any(map(str.isspace, text[start:end])) for start, end in spans)
    whole = list(word_spans(text))
    assert all(any(s <= start and end <= e for s, e in whole) for start, end in spans)
    if not encoded.truncated:
        assert set(spans) <= set(whole)

    content = np.flatnonzero(~encoded.is_special)
    read = [encoding.offsets[token] for token in content]
    covered = {c for start, end in read for c in range(start, end)}
    last = max((end for _, end in read), default=0)
    kinds = Counter[str]()
    for c, character in enumerate(text):
        if character.isspace():
            assert c not in of_words
            kinds["white space"] += 1
        elif c in set(of_words):
            kinds["in a word" if c in covered else "in a word, uncovered"] += 1
        else:
            assert c not in covered, f"{character!r} at {c} is read, and in no word"
            kinds["cut" if encoded.truncated and c >= last else "uncovered"] += 1

    share = np.bincount(found.token, found.share, len(encoded))
    assert np.isin(share.round(12), (0, 1)).all(), "a token is given out whole, or not at all"
    for token in content[share[content] == 0]:
        start, end = encoding.offsets[token]
        assert not text[start:end].strip()
    assert (share[encoded.is_special] == 0).all()
    assert sorted(found.token[found.main].tolist()) == np.flatnonzero(share).tolist()
    assert encoded.word_ids[found.token[found.main]].tolist() == found.word[found.main].tolist()
    kinds["words"], kinds["texts"], kinds["tokens"] = len(spans), 1, len(encoded)
    kinds["shared tokens"] = len(found.token) - int(found.main.sum())
    return kinds


def check_all(name: str, texts: list[str], max_length: int | None = None) -> Counter[str]:
    reader = encoder(name, max_length)
    encoded = reader.encode(texts)
    raw = reader._tokenize(texts)
    return sum((check(*one) for one in zip(texts, encoded, raw, strict=True)), Counter())


def test_every_class_is_built_or_named() -> None:
    assert set(every_tokenizer.CANNOT) <= set(every_tokenizer.NAMES)
    assert len(BUILT) >= 40


@pytest.mark.parametrize("name", BUILT)
def test_words_are_the_text(name: str) -> None:
    counts = check_all(name, list(TEXTS))
    assert counts["words"] > 30
    cut = check_all(name, list(TEXTS[:2]), 8)
    assert cut["cut"] > 20


@pytest.mark.parametrize(
    "name", ["LlamaTokenizer", "GemmaTokenizer", "CodeLlamaTokenizer", "Siglip2Tokenizer"]
)
def test_a_tokenizer_of_one_word_id_gives_words(name: str) -> None:
    reader = encoder(name)
    text = "a good film, never a bad film"
    assert len({w for w in reader._tokenize([text])[0].word_ids if w is not None}) == 1
    (encoded,) = reader.encode([text])
    found = align([text], np.zeros(1, int), encoded.segments, encoded.char_spans, np.zeros(1, bool))
    spans = sorted(set(zip(found.start.tolist(), found.end.tolist(), strict=True)))
    assert [text[s:e].lower() for s, e in spans] == ["a", "good", "film", ",", "never", "a", "bad", "film"]


@extended("a hundred random texts for every class of tokenizer")
@pytest.mark.parametrize("name", BUILT)
def test_words_are_any_text(name: str) -> None:
    total = Counter[str]()

    @settings(max_examples=100, deadline=None, database=None, derandomize=True)
    @given(EXAMPLES, st.sampled_from((None, 9)))
    def check_example(text: str, max_length: int | None) -> None:
        total.update(check_all(name, [text], max_length))

    check_example()
    print(name, dict(total))
