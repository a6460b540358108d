"""Texts as token rows: encoding with offsets, and padded batches.

Which tokens are special is decided by where the tokenizer put them, never by their id: a text may hold a literal
`[SEP]`, and a pad token may be the end-of-text token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from calig.errors import InputError
from calig.records import Bool, Int


@dataclass(frozen=True, slots=True, eq=False)
class EncodedText:
    """One text, or pair of texts, as T tokens.

    Ids, types, strings, word ids (−1: special), character spans in the token's own text, segments (0: first text,
    1: second, −1: special), and which are special.
    """

    ids: Int
    types: Int
    tokens: list[str]
    word_ids: Int
    char_spans: Int
    segments: Int
    is_special: Bool
    truncated: bool

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B texts padded on the right to T tokens; every tensor is (B, T). `content` marks what a baseline replaces."""

    inputs: dict[str, Tensor]
    content: Tensor

    @property
    def mask(self) -> Tensor:
        """(B, T) 1 for tokens, 0 for padding."""
        return self.inputs["attention_mask"]

    def rows(self, index: Tensor) -> Batch:
        """The batch whose row r is this one's row index[r]."""
        return Batch({k: v[index] for k, v in self.inputs.items()}, self.content[index])


class TextEncoder:
    """Encodes texts for one model; knows its longest input and its padding."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
    ) -> None:
        self.tokenizer = tokenizer
        limit = _model_limit(model)
        if tokenizer.model_max_length < 10**9:
            limit = min(limit, int(tokenizer.model_max_length)) if limit else int(tokenizer.model_max_length)
        if max_length is not None and limit and max_length > limit:
            raise InputError(f"method.max_length: {max_length} is above the model's {limit} tokens; lower it")
        room = tokenizer.num_special_tokens_to_add()
        if max_length is not None and max_length <= room:
            raise InputError(
                f"method.max_length: {max_length} leaves no room beside {room} special tokens; raise it"
            )
        self.max_length: int | None = max_length or limit or None
        self._uses_types = "token_type_ids" in tokenizer.model_input_names
        pad = tokenizer.pad_token_id
        self.pad_id: int = pad if pad is not None else 0

    def encode(self, texts: Sequence[str | tuple[str, str]]) -> list[EncodedText]:
        """Tokenize texts and pairs, cutting those above the model's limit (marked `truncated`)."""
        paired = [i for i, text in enumerate(texts) if not isinstance(text, str)]
        single = [i for i, text in enumerate(texts) if isinstance(text, str)]
        done: dict[int, EncodedText] = {}
        for rows in (single, paired):
            if rows:
                done.update(zip(rows, self._encode([texts[i] for i in rows]), strict=True))
        return [done[i] for i in range(len(texts))]

    def _encode(self, texts: Sequence[str | tuple[str, str]]) -> list[EncodedText]:
        pairs = [(text,) if isinstance(text, str) else text for text in texts]
        coded = self.tokenizer(
            *(list(part) for part in zip(*pairs, strict=True)),
            truncation=self.max_length is not None,
            max_length=self.max_length,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        return [self._one(pair, encoding) for pair, encoding in zip(pairs, coded.encodings, strict=True)]

    def _one(self, texts: Sequence[str], encoding: object) -> EncodedText:
        ids = np.asarray(encoding.ids, dtype=np.int32)  # type: ignore[attr-defined]
        special = np.asarray(encoding.special_tokens_mask, dtype=np.bool_)  # type: ignore[attr-defined]
        words = [-1 if w is None else w for w in encoding.word_ids]  # type: ignore[attr-defined]
        word_ids = np.asarray(words, dtype=np.int32).reshape(len(ids))
        spans = np.asarray(encoding.offsets, dtype=np.int32).reshape(len(ids), 2)  # type: ignore[attr-defined]
        spans = spans.copy()
        parts = [-1 if part is None else part for part in encoding.sequence_ids]  # type: ignore[attr-defined]
        segments = np.asarray(parts, dtype=np.int32).reshape(len(ids))
        segments[special] = -1
        first = word_ids[segments == 0].max(initial=-1) + 1
        word_ids[(segments == 1) & (word_ids >= 0)] += first
        for i, (start, end) in enumerate(spans):
            piece = texts[max(segments[i], 0)][start:end]
            spans[i, 0] = start + len(piece) - len(piece.lstrip()) if piece.strip() else start
        spans[special] = 0
        word_ids[special] = -1
        orphans = (word_ids < 0) & ~special  # content that no word claims: each a word of its own
        word_ids[orphans] = word_ids.max(initial=-1) + 1 + np.arange(orphans.sum(), dtype=np.int32)
        return EncodedText(
            ids=ids,
            types=np.asarray(encoding.type_ids, dtype=np.int32),  # type: ignore[attr-defined]
            tokens=list(encoding.tokens),  # type: ignore[attr-defined]
            word_ids=word_ids,
            char_spans=spans,
            segments=segments,
            is_special=special,
            truncated=bool(encoding.overflowing),  # type: ignore[attr-defined]
        )

    def batch(self, texts: Sequence[EncodedText], device: torch.device) -> Batch:
        """Pad to the longest, on the right, with a mask."""
        longest = max(len(text) for text in texts)
        ids = torch.full((len(texts), longest), self.pad_id, dtype=torch.long)
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
        return Batch(inputs, content.to(device))


def _model_limit(model: PreTrainedModel) -> int:
    """Longest input in tokens, 0 if the configuration names none.

    RoBERTa-like models number positions from padding_idx + 1 on, which their position table's padding index shows.
    """
    limit = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            reserved = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - reserved
    return limit
