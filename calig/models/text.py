"""Texts and pairs of texts as token rows: encoding with offsets, and padded batches.

Which tokens are special is decided by where the tokenizer put them, never by their id: a text may hold a literal
`[SEP]`, and a pad token may be the end-of-text token. Batches are padded on the right with the id that the *model*
takes for padding, whatever the tokenizer would do: RoBERTa-like models number positions, and decoders' heads find the
last token, by that id.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from calig.errors import InputError, shown
from calig.faults import apart, failure_of
from calig.models.alignment import encode
from calig.models.inputs import Batch, Encoded
from calig.records import Document, Failure, Int
from calig.words import align

TextOrPair: TypeAlias = str | tuple[str, str]


_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EncodedText(Encoded):
    """One text, or pair of texts, as T tokens.

    ids, types (T,): as the tokenizer gives them; segments (T,): 0 in the first text, 1 in the second, −1 special;
    word_ids (T,): unique over the pair, −1 special or in no word; char_spans (T, 2): in the token's own text.
    """

    ids: Int
    types: Int


class TextEncoder:
    """Encodes texts for one model; knows its longest input and its padding."""

    window = sys.maxsize

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
    ) -> None:
        self.tokenizer = tokenizer
        limit = longest_input(model)
        if tokenizer.model_max_length < 10**9:
            limit = min(limit, int(tokenizer.model_max_length)) if limit else int(tokenizer.model_max_length)
        if max_length is not None and limit and max_length > limit:
            raise InputError(f"method.max_length: {max_length} is above the model's {limit} tokens; lower it")
        self.max_length: int | None = max_length or limit or None
        if max_length is not None:
            self._leave_room(pair=False)
        self._uses_types = "token_type_ids" in tokenizer.model_input_names
        self._pad_id = padding_id(model)
        self._vocabulary = embedded_ids(model)

    def read(self, documents: Sequence[Document]) -> list[EncodedText | Failure]:
        """Encode documents, in order; one that cannot be, or has no token, becomes a `Failure`."""
        broken = {i: failure for i, d in enumerate(documents) if (failure := _undecodable(d))}
        readable = [d for i, d in enumerate(documents) if i not in broken]
        encoded = iter(apart(readable, self._encode_documents, _not_tokenized))
        found: list[EncodedText | Failure] = []
        for i, document in enumerate(documents):
            if i in broken:
                found.append(broken[i])
                continue
            text = next(encoded)
            found.append(text if isinstance(text, Failure) else self._checked(document, text))
        return found

    def _encode_documents(self, documents: Sequence[Document]) -> Sequence[EncodedText | Failure]:
        return self.encode([d.text if d.pair is None else (d.text, d.pair) for d in documents])

    def _checked(self, document: Document, text: EncodedText) -> EncodedText | Failure:
        """The text; a failure where it has no token, or one that is not embedded, which a GPU does not survive."""
        if text.is_special.all():
            return _empty(document)
        beyond = np.flatnonzero((text.ids < 0) | (text.ids >= self._vocabulary))
        if len(beyond) == 0:
            return text
        first = int(beyond[0])
        detail = (
            f"the tokenizer gives token {text.tokens[first]!r} the id {text.ids[first]}, and the model embeds "
            f"{self._vocabulary} ids, from 0 on"
        )
        return Failure(document.key, "not-embedded", shown(detail))

    def encode(self, texts: Sequence[TextOrPair]) -> list[EncodedText]:
        """Tokenize texts and pairs, cutting those above the model's limit (marked `truncated`), pairs longest first.

        Raises
        ------
        DocumentError
            The tokenizer gives no offsets, and its tokens cannot be found in a text.
        InputError
            `max_length` leaves no room for a pair's content.
        """
        found: list[EncodedText | None] = [None] * len(texts)
        single = [i for i, text in enumerate(texts) if isinstance(text, str)]
        paired = [i for i, text in enumerate(texts) if not isinstance(text, str)]
        if single:
            codes = self._tokenize([texts[i] for i in single])
            for i, encoding in zip(single, codes, strict=True):
                found[i] = _one((str(texts[i]),), encoding)
        if paired:
            self._leave_room(pair=True)
            codes = self._tokenize([texts[i][0] for i in paired], [texts[i][1] for i in paired])
            for i, encoding in zip(paired, codes, strict=True):
                found[i] = _one(tuple(texts[i]), encoding)
        return [text for text in found if text is not None]

    def batch(self, texts: Sequence[EncodedText], device: torch.device) -> Batch:
        """Pad to the longest, on the right, with a mask."""
        longest = max(len(text) for text in texts)
        pad = self._pad_id
        if pad is None:
            pad = free_id({int(i) for text in texts for i in text.ids}, self._vocabulary)
        ids = torch.full((len(texts), longest), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        types = torch.zeros_like(ids)
        content = torch.zeros((len(texts), longest), dtype=torch.bool)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.from_numpy(text.ids)
            types[row, : len(text)] = torch.from_numpy(text.types)
            mask[row, : len(text)] = 1
            content[row, : len(text)] = torch.from_numpy(~text.is_special)
        inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        if self._uses_types:
            inputs["token_type_ids"] = types.to(device)
        return Batch(inputs, content.to(device), pad if self._pad_id is None else None)

    def _leave_room(self, pair: bool) -> None:
        room = self.tokenizer.num_special_tokens_to_add(pair=pair)
        if self.max_length is not None and self.max_length <= room:
            what = f"{room} special tokens" + (" of a pair" if pair else "")
            raise InputError(f"method.max_length: {self.max_length} leaves no room beside {what}; raise it")

    def _tokenize(self, *texts: Sequence[Any]) -> Any:
        if not self.tokenizer.is_fast:
            return [encode(self.tokenizer, own, self.max_length) for own in zip(*texts, strict=True)]
        return self.tokenizer(
            *map(list, texts),
            truncation="longest_first" if self.max_length is not None else False,
            max_length=self.max_length,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        ).encodings


def _undecodable(document: Document) -> Failure | None:
    if not _SURROGATE.search(document.text + "\n" + (document.pair or "")):
        return None
    noun = "the text" if document.pair is None else "one of the texts"
    return Failure(document.key, "undecodable", f"{noun} holds half a surrogate pair, which is no character")


def _not_tokenized(document: Document, error: BaseException) -> Failure:
    return failure_of(document.key, error, "not-tokenized", "tokenizing it")


def _empty(document: Document) -> Failure:
    blank = not (document.text + (document.pair or "")).strip()
    detail = "the text is empty" if document.pair is None else "both texts are empty"
    return Failure(document.key, "empty", detail if blank else "the tokenizer finds no token in it")


def padding_id(model: PreTrainedModel) -> int | None:
    """The id that the model takes for padding; None where its configuration names none, or none that it embeds."""
    configured = model.config.get_text_config().pad_token_id
    return int(configured) if configured is not None and 0 <= configured < embedded_ids(model) else None


def embedded_ids(model: PreTrainedModel) -> int:
    """How many ids the model embeds: 0 up to this."""
    return len(cast(Tensor, model.get_input_embeddings().weight))


def free_id(used: set[int], vocabulary: int) -> int:
    """The lowest id below `vocabulary` that is not used.

    Raises
    ------
    InputError
        There is none.
    """
    free = next((i for i in range(vocabulary) if i not in used), None)
    if free is None:
        raise InputError(
            "model.id: its config.json has no pad_token_id, and a batch of texts uses every token there is; "
            "set pad_token_id there"
        )
    return free


def _one(texts: tuple[str, ...], encoding: Any) -> EncodedText:
    ids = np.asarray(encoding.ids, dtype=np.int32)
    special = np.asarray(encoding.special_tokens_mask, dtype=np.bool_).reshape(len(ids))
    sequences = [-1 if s is None else s for s in encoding.sequence_ids]
    segments = np.where(special, -1, np.asarray(sequences, dtype=np.int32).reshape(len(ids)))
    spans = np.array(encoding.offsets, dtype=np.int32).reshape(len(ids), 2)
    spaces = np.zeros(len(ids), np.bool_)
    for i, (start, end) in enumerate(spans):
        piece = texts[segments[i]][start:end]
        if piece.strip():  # they start and end at what is seen
            spans[i] = start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
        spaces[i] = piece == " "
    spans[special] = 0
    truncated = bool(encoding.overflowing)
    words = _words(texts, segments, spans, truncated)
    led = spaces & (words >= 0)  # a space that belongs to the word behind it is no character of the word
    spans[led, 0] = spans[led, 1]
    return EncodedText(
        ids=ids,
        types=np.asarray(encoding.type_ids, dtype=np.int32),
        tokens=list(encoding.tokens),
        segments=segments.astype(np.int32),
        word_ids=words,
        char_spans=spans,
        is_special=special,
        truncated=truncated,
    )


def _words(texts: tuple[str, ...], segments: Int, spans: Int, truncated: bool) -> Int:
    """(T,) the word that holds most of each token, numbered over both texts; −1 for tokens in no word."""
    one = np.zeros(len(texts), np.int32)
    found = align(texts, one, segments, spans, np.full(len(texts), truncated))
    words = np.full(len(segments), -1, np.int32)
    words[found.token[found.main]] = found.word[found.main]
    return words


def longest_input(model: PreTrainedModel) -> int:
    """Longest input in tokens, 0 if the configuration names none.

    RoBERTa-like models number positions from padding_idx + 1 on, which their position table's padding index shows.
    """
    named = (getattr(model.config, name, None) for name in ("max_position_embeddings", "max_seq_len"))
    limit = max(0, int(next(filter(None, named), 0)))
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            reserved = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - reserved
    return limit
