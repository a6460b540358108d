"""Every fast tokenizer class that transformers maps a model to, with a vocabulary of a few hundred pieces.

Pieces join letters within words and, in those of one space, across words: tokens that hold two words are common.
"""

from __future__ import annotations

import string
from functools import cache
from typing import Any

import transformers
from tokenizers import pre_tokenizers
from transformers import TokenizersBackend
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

CANNOT = {
    "LayoutLMv2Tokenizer": "takes words with boxes, not texts",
    "LayoutLMv3Tokenizer": "takes words with boxes, not texts",
    "LayoutXLMTokenizer": "takes words with boxes, not texts",
    "MarkupLMTokenizer": "takes HTML nodes, not texts",
    "RoFormerTokenizer": "needs the package rjieba",
    "UdopTokenizer": "takes words with boxes, not texts",
}
"""Classes that cannot be built from a text alone, and why."""
NAMES = sorted(
    {
        found.__name__
        for name in TOKENIZER_MAPPING_NAMES.values()
        if name
        and isinstance(found := getattr(transformers, name), type)
        and issubclass(found, TokenizersBackend)
    }
)
_SPECIAL = [
    *("<pad>", "<unk>", "<s>", "</s>", "<mask>", "<cls>", "<sep>", "<eos>", "<bos>"),
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<|endoftext|>", "<|startoftext|>", "<|im_end|>"),
]
_LETTERS = string.ascii_letters + string.digits + string.punctuation + "éüßжяпри字我用ภา한국ש"
_WORDS = ("film", "never", "good", "bad", "the", "don")
_PIECES = [*_SPECIAL, *_LETTERS, *("##" + letter for letter in _LETTERS), *_WORDS, "##ing", "##s"]
_UNIGRAM = [
    *((piece, 0.0) for piece in _SPECIAL),
    *((piece, -2.0) for piece in ("▁", *_LETTERS)),
    *(("▁" + word, -3.0) for word in _WORDS),
    *((piece, -3.0) for piece in ("▁a▁good", "▁a▁bad", "ing", "d▁")),
]
_MERGES = [
    *(
        ("Ġ", "a"),
        ("Ġ", "f"),
        ("i", "l"),
        ("Ġf", "il"),
        ("Ġfil", "m"),
        ("Ġ", "Ġ"),
        ("n", "e"),
        ("v", "e"),
        ("o", "o"),
    ),
    *(
        ("▁", "a"),
        ("▁", "f"),
        ("▁f", "il"),
        ("▁fil", "m"),
        ("▁", "b"),
        ("▁b", "a"),
        ("▁ba", "d"),
        ("▁a", "▁bad"),
    ),
    *((",", "▁"), ("▁", "▁")),
]


@cache
def tokenizer(name: str) -> Any:
    """Build a class's tokenizer; those in `CANNOT` raise."""
    kind = getattr(transformers, name)
    model = getattr(getattr(kind, "model", None), "__name__", None)
    if model == "WordPiece":
        return kind(vocab=_numbered(_PIECES))
    if model == "BPE":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        pieces = [*_SPECIAL, *alphabet, *_LETTERS, "▁", *(one + "</w>" for one in alphabet)]
        pieces += [*(f"<0x{byte:02X}>" for byte in range(256)), *("".join(merge) for merge in _MERGES)]
        return kind(vocab=_numbered(pieces), merges=_MERGES)
    return kind(vocab=_UNIGRAM)


def _numbered(pieces: list[str]) -> dict[str, int]:
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
