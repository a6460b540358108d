"""Encoding: what is content is decided by position, and offsets give the text back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calig.errors import InputError
from calig.models.text import TextEncoder
from tests.material import zoo
from tests.material.tiers import few

SCRIPTS = (
    "a good film",
    "  a   good\tfilm\n",
    "good 🎬🎉 film",
    "👩‍👩‍👧‍👦 a",
    "فيلم جيد",
    "סרט טוב good",
    "e\u0301a\u0300 film n\u0303",
    "ﬁlm ① good",
    "映画は良い",
)


def encoder_of(name: str, max_length: int | None = None) -> TextEncoder:
    pretrained = zoo.shared(name)
    return TextEncoder(pretrained.model, pretrained.tokenizer, max_length)


@pytest.mark.parametrize("name", few(zoo.TEXT_FAMILIES, zoo.QUICK, zoo.MATRIX))
class TestEveryFamily:
    def test_ids_are_the_tokenizer_s(self, name: str) -> None:
        pretrained = zoo.shared(name)
        encoder = TextEncoder(pretrained.model, pretrained.tokenizer)
        for text, encoded in zip(SCRIPTS, encoder.encode(SCRIPTS), strict=True):
            assert encoded.ids.tolist() == pretrained.tokenizer(text)["input_ids"]
            named = pretrained.tokenizer.convert_ids_to_tokens(encoded.ids.tolist())
            unknown = (
                encoded.ids == pretrained.tokenizer.unk_token_id
            )  # some tokenizers show what was written
            assert all(a == b for a, b, u in zip(encoded.tokens, named, unknown, strict=True) if not u)

    def test_the_tokenizer_s_own_tokens_are_special_and_span_nothing(self, name: str) -> None:
        for text, encoded in zip(SCRIPTS, encoder_of(name).encode(SCRIPTS), strict=True):
            spelling = zoo.TEXT_FAMILIES[name].tokenizer
            inside = len(encoded) - spelling.before - spelling.after
            expected = [True] * spelling.before + [False] * inside + [True] * spelling.after
            assert encoded.is_special.tolist() == expected
            assert (encoded.char_spans[encoded.is_special] == 0).all()
            assert (encoded.word_ids[encoded.is_special] == -1).all()
            for start, end in encoded.char_spans[~encoded.is_special & (encoded.word_ids < 0)]:
                assert not text[start:end].strip(), "only white space is in no word"

    def test_spans_lie_in_the_text_in_order_and_start_at_what_is_seen(self, name: str) -> None:
        for text, encoded in zip(SCRIPTS, encoder_of(name).encode(SCRIPTS), strict=True):
            spans = encoded.char_spans[~encoded.is_special]
            assert (spans[:, 0] <= spans[:, 1]).all()
            assert (spans >= 0).all()
            assert (spans <= len(text)).all()
            assert (np.diff(spans[:, 0]) >= 0).all()
            for start, end in spans:
                piece = text[start:end]
                assert not piece.strip() or not piece[0].isspace()

    def test_every_visible_character_is_covered(self, name: str) -> None:
        """No emoji, right-to-left letter or combining character falls between the spans."""
        ignored_by_bert = set("\u0301\u0300\u0303\u200d\ufe0f")
        encoder = encoder_of(name)
        ignored = ignored_by_bert if encoder.tokenizer.backend_tokenizer.normalizer else set()
        for text, encoded in zip(SCRIPTS, encoder.encode(SCRIPTS), strict=True):
            covered = {i for start, end in encoded.char_spans for i in range(start, end)}
            missed = {c for i, c in enumerate(text) if i not in covered and not c.isspace()}
            assert missed <= ignored

    def test_spans_slice_the_text_to_the_token(self, name: str) -> None:
        text = "The good, film"
        (encoded,) = encoder_of(name).encode([text])
        for token, (start, end), special in zip(
            encoded.tokens, encoded.char_spans, encoded.is_special, strict=True
        ):
            bare = token.removeprefix("##").lstrip("Ġ▁")
            if not special and bare not in ("", "<unk>", "[UNK]"):
                seen = text[start:end] if zoo.TEXT_FAMILIES[name].tokenizer.cased else text[start:end].lower()
                assert seen == bare

    def test_batches_pad_on_the_right_with_a_mask(self, name: str) -> None:
        encoder = encoder_of(name)
        texts = encoder.encode(["a", "a good film", "good"])
        batch = encoder.batch(texts, torch.device("cpu"))
        longest = max(len(text) for text in texts)
        for row, text in enumerate(texts):
            used = len(text)
            assert batch.inputs["input_ids"].shape == (3, longest)
            assert batch.inputs["input_ids"][row, :used].tolist() == text.ids.tolist()
            assert (batch.inputs["input_ids"][row, used:] == zoo.TEXT_FAMILIES[name].pad).all()
            assert batch.mask[row].tolist() == [1] * used + [0] * (longest - used)
            assert batch.content[row].tolist() == (~text.is_special).tolist() + [False] * (longest - used)

    def test_the_longest_input_is_what_the_position_table_holds(self, name: str) -> None:
        encoder = encoder_of(name)
        assert encoder.max_length == zoo.POSITIONS
        long, short = encoder.encode(["a good film " * 60, "a"])
        assert (len(long), long.truncated) == (zoo.POSITIONS, True)
        assert not short.truncated
        pretrained = zoo.shared(name)
        batch = encoder.batch([long], torch.device("cpu"))
        assert torch.isfinite(pretrained.model(**batch.inputs).logits).all()

    def test_a_text_that_just_fits_is_not_truncated(self, name: str) -> None:
        encoder = encoder_of(name, max_length=5)
        spelling = zoo.TEXT_FAMILIES[name].tokenizer
        room = 5 - spelling.before - spelling.after
        fits, exceeds = encoder.encode([(spelling.unit * n).strip() for n in (room, room + 1)])
        assert [len(fits), fits.truncated] == [5, False]
        assert [len(exceeds), exceeds.truncated] == [5, True]


@pytest.mark.parametrize(
    ("name", "text", "literal"),
    [
        ("bert", "good [SEP] film [PAD] a [CLS]", ("[SEP]", "[PAD]", "[CLS]")),
        ("roberta", "good</s>film<pad>a<s>", ("</s>", "<pad>", "<s>")),
        ("xlm-roberta", "good </s> film <pad> a <s>", ("</s>", "<pad>", "<s>")),
    ],
)
def test_a_literal_special_token_in_the_text_is_content(
    name: str, text: str, literal: tuple[str, ...]
) -> None:
    encoder = encoder_of(name)
    (encoded,) = encoder.encode([text])
    inside = encoded.tokens[1:-1]
    for token in literal:
        position = 1 + inside.index(token)
        assert not encoded.is_special[position]
        assert encoded.word_ids[position] >= 0
        start, end = encoded.char_spans[position]
        assert text[start:end].strip() == token
    words = encoded.word_ids[[1 + inside.index(token) for token in literal]]
    assert len(set(words.tolist())) == len(literal), "each is a word of its own"
    batch = encoder.batch([encoded], torch.device("cpu"))
    assert batch.content[0].tolist() == [False, *[True] * len(inside), False]
    assert batch.mask.all(), "a pad token in the text is not padding"


def test_rows_are_picked_together() -> None:
    encoder = encoder_of("bert")
    batch = encoder.batch(encoder.encode(zoo.TEXTS), torch.device("cpu"))
    for length in (batch.mask.shape[1], 5):
        picked = batch.rows(torch.tensor([3, 0, 3]), length)
        for name, value in batch.inputs.items():
            assert torch.equal(picked.inputs[name], value[[3, 0, 3], :length])
        assert torch.equal(picked.content, batch.content[[3, 0, 3], :length])


def test_a_length_above_the_model_s_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"^method\.max_length: 65 is above the model's 64 tokens; lower it$"
    ):
        encoder_of("roberta", max_length=65)


def test_the_tokenizer_s_own_limit_counts_when_it_is_lower() -> None:
    pretrained = zoo.load("bert")
    pretrained.tokenizer.model_max_length = 20
    assert TextEncoder(pretrained.model, pretrained.tokenizer).max_length == 20


def test_no_texts_give_no_rows() -> None:
    assert encoder_of("bert").encode([]) == []


def test_a_length_without_room_for_content_is_refused() -> None:
    with pytest.raises(InputError, match=r"method\.max_length: 2 leaves no room beside 2 special tokens"):
        encoder_of("bert", max_length=2)
    assert len(encoder_of("bert", max_length=3).encode(["a good film"])[0]) == 3


class TestPairs:
    PAIRS = (
        ("a good film", "the cast is dull"),
        ("  not bad", "warm\tideas !"),
        ("good [SEP] film", "a <s> film"),
    )

    @pytest.mark.parametrize("name", few(zoo.TEXT_FAMILIES, zoo.QUICK, zoo.MATRIX))
    def test_each_text_is_encoded_as_it_is_alone(self, name: str) -> None:
        encoder = encoder_of(name)
        pairs = encoder.encode(self.PAIRS)
        for pair, encoded in zip(self.PAIRS, pairs, strict=True):
            words: list[int] = []
            for segment, text in enumerate(pair):
                (alone,) = encoder.encode([text])
                mine, content = encoded.segments == segment, ~alone.is_special
                assert encoded.ids[mine].tolist() == alone.ids[content].tolist()
                assert encoded.char_spans[mine].tolist() == alone.char_spans[content].tolist()
                theirs, own = encoded.word_ids[mine], alone.word_ids[content]
                assert (theirs < 0).tolist() == (own < 0).tolist()
                theirs, own = theirs[theirs >= 0], own[own >= 0]
                assert (theirs - theirs.min()).tolist() == own.tolist()
                words += set(theirs.tolist())
            assert len(words) == len(set(words)), "no word is of both texts"
            assert ((encoded.segments == -1) == encoded.is_special).all()
            assert (encoded.word_ids[encoded.is_special] == -1).all()
            assert (encoded.char_spans[encoded.is_special] == 0).all()

    @pytest.mark.parametrize("name", few(zoo.TEXT_FAMILIES, zoo.QUICK, zoo.MATRIX))
    def test_pairs_are_the_tokenizer_s(self, name: str) -> None:
        pretrained, (first, second) = zoo.shared(name), self.PAIRS[0]
        encoder = TextEncoder(pretrained.model, pretrained.tokenizer)
        (encoded,) = encoder.encode([(first, second)])
        own = pretrained.tokenizer(first, second, return_token_type_ids=True)
        assert encoded.ids.tolist() == own["input_ids"]
        assert encoded.types.tolist() == own["token_type_ids"]
        batch = encoder.batch([encoded], torch.device("cpu"))
        given = pretrained.tokenizer(first, second, return_tensors="pt")
        assert torch.equal(pretrained.model(**batch.inputs).logits, pretrained.model(**given).logits)

    def test_token_types_tell_the_texts_apart(self) -> None:
        (encoded,) = encoder_of("bert").encode([("a good film", "dull")])
        assert encoded.types.tolist() == [0, 0, 0, 0, 0, 1, 1]
        assert encoded.segments.tolist() == [-1, 0, 0, 0, -1, 1, -1]

    def test_texts_and_pairs_may_be_mixed_and_keep_their_order(self) -> None:
        encoder = encoder_of("bert")
        mixed = ["good", ("a", "b"), "dull film", ("c", "d e")]
        for text, encoded in zip(mixed, encoder.encode(mixed), strict=True):
            (alone,) = encoder.encode([text])
            assert encoded.ids.tolist() == alone.ids.tolist()
            assert set(encoded.segments.tolist()) == ({-1, 0} if isinstance(text, str) else {-1, 0, 1})

    def test_the_longer_text_is_cut_first(self) -> None:
        encoder = encoder_of("bert", max_length=9)
        fits, first, second, both = encoder.encode(
            [("a a a", "b b b"), ("a a a a a a", "b"), ("a", "b b b b b b"), ("a a a a", "b b b b")]
        )
        counts = [
            [(e.segments == s).sum() for s in (0, 1)] + [e.truncated] for e in (fits, first, second, both)
        ]
        assert counts == [[3, 3, False], [5, 1, True], [1, 5, True], [3, 3, True]]

    def test_an_empty_text_in_a_pair_has_no_tokens(self) -> None:
        encoder = encoder_of("roberta")
        one, none = encoder.encode([("", "good"), ("", "")])
        assert set(one.segments.tolist()) == {-1, 1}
        assert none.is_special.all()

    def test_a_length_without_room_for_a_pair_is_refused(self) -> None:
        encoder = encoder_of("roberta", max_length=4)
        assert len(encoder.encode(["aaaa"])[0]) == 4
        with pytest.raises(
            InputError,
            match=r"^method\.max_length: 4 leaves no room beside 4 special tokens of a pair; raise it$",
        ):
            encoder.encode([("a", "b")])
