"""Small random classifiers of several families, saved as the hub would; a new family is one line of `FAMILIES`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from calig.attribution.explainer import Explainer
from calig.attribution.method import Method
from calig.attribution.schedule import Schedule
from calig.models.loading import Pretrained, load_pretrained

CLASSES = ("no", "maybe", "yes")
WORDS = tuple(
    "a film full of good bad dull and brilliant ideas but never warm the cast is not great , or . !".split()  # noqa: SIM905
)
TEXTS = (
    "a good film",
    "the cast is brilliant but the film is dull , never warm",
    "not great , not bad",
    "a dull film full of ideas and never a good one .",
    "brilliant !",
)
HIDDEN, HEADS, BLOCKS, POSITIONS = 24, 3, 3, 64
SPREAD = 0.25
"""Standard deviation of the random weights: large enough that no model is nearly linear."""


def wordpiece() -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = sorted(set("".join(WORDS)) | set("abcdefghijklmnopqrstuvwxyz'"))
    pieces = [*special, *letters, *(f"##{c}" for c in letters), *sorted(set(WORDS) - set(letters))]
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    return _wrap(tokenizer, names, ["input_ids", "token_type_ids", "attention_mask"])


def byte_level() -> PreTrainedTokenizerFast:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the", "Ġa", "go", "od"]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "a"), ("g", "o"), ("o", "d")]
    tokenizer = Tokenizer(models.BPE({p: i for i, p in enumerate(vocabulary)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = dict(zip(("bos", "pad", "eos", "unk", "mask"), special, strict=True), cls="<s>", sep="</s>")
    return _wrap(tokenizer, names, ["input_ids", "attention_mask"])


def unigram() -> PreTrainedTokenizerFast:
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = sorted(set("abcdefghijklmnopqrstuvwxyz,.!'▁"))
    scores = [(p, 0.0) for p in special] + [(f"▁{w}", -3.0) for w in sorted(set(WORDS))]
    scores += [(c, -6.0) for c in letters] + [("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
    return _wrap(tokenizer, {**names, "cls": "<s>", "sep": "</s>"}, ["input_ids", "attention_mask"])


def _wrap(tokenizer: Tokenizer, names: dict[str, str], inputs: list[str]) -> PreTrainedTokenizerFast:
    named = {f"{role}_token": token for role, token in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **named)


@dataclass(frozen=True)
class Family:
    """A transformers family: its class names' stem, its tokenizer, its pad id, and its other names for sizes."""

    stem: str
    tokenizer: Callable[[], PreTrainedTokenizerFast]
    pad: int
    options: Callable[[], dict[str, Any]] = dict

    @property
    def padding_numbers_positions(self) -> bool:
        """RoBERTa-like: positions are counted over ids that are not the pad id, from pad id + 1 on."""
        return "Roberta" in self.stem


def _sizes(**others: int) -> dict[str, Any]:
    usual = {"hidden_size": HIDDEN, "num_hidden_layers": BLOCKS, "num_attention_heads": HEADS}
    return {**usual, "intermediate_size": 2 * HIDDEN, **others}


FAMILIES = {
    "bert": Family("Bert", wordpiece, 0, _sizes),
    "roberta": Family("Roberta", byte_level, 1, _sizes),
    "xlm-roberta": Family("XLMRoberta", unigram, 1, _sizes),
    "distilbert": Family(
        "DistilBert",
        wordpiece,
        0,
        lambda: {"dim": HIDDEN, "n_layers": BLOCKS, "n_heads": HEADS, "hidden_dim": 48},
    ),
    "electra": Family("Electra", wordpiece, 0, lambda: _sizes(embedding_size=16)),
}
_SAVED = tempfile.TemporaryDirectory(prefix="calig-zoo-")


@cache
def folder(name: str) -> Path:
    """The family's model, saved; treat as read-only."""
    family, path = FAMILIES[name], Path(_SAVED.name) / name
    save(family, path)
    return path


def save(family: Family, path: Path, seed: int = 0, **config: Any) -> None:
    """Write a random classifier of the family with its tokenizer, in the hub's layout."""
    tokenizer = family.tokenizer()
    made = getattr(transformers, f"{family.stem}Config")(
        **{
            "vocab_size": len(tokenizer),
            "max_position_embeddings": POSITIONS + (2 if family.padding_numbers_positions else 0),
            "pad_token_id": family.pad,
            "initializer_range": SPREAD,
            "id2label": dict(enumerate(CLASSES)),
            "label2id": {name: i for i, name in enumerate(CLASSES)},
            **family.options(),
            **config,
        }
    )
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # the same weights whatever a test computes in
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{family.stem}ForSequenceClassification")(made)
        for parameter in model.parameters():  # biases, norms and the pad row are not random at first
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    torch.set_default_dtype(default)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def load(name: str, dtype: str = "float64") -> Pretrained:
    """Load the family's model afresh: the caller may change it."""
    return load_pretrained(str(folder(name)), dtype=dtype)


def explainer(
    name: str,
    dtype: str = "float64",
    *,
    frozen: int | None = None,
    token_budget: int | None = None,
    pretrained: Pretrained | None = None,
    **method: Any,
) -> Explainer:
    """Explain with the family's model; `frozen`: every document stops at this rung, whatever its error."""
    chosen = Method(**{"tolerance": 0.999, **method} if frozen is not None else method)
    ready = pretrained or load(name, dtype)
    schedule = None
    if frozen is not None:
        schedule = Schedule.default(chosen.rule, BLOCKS, chosen.max_nodes).frozen(frozen)
    return Explainer(ready, chosen, schedule, token_budget)


def inputs(pretrained: Pretrained, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """Padded ids and mask straight from the tokenizer, without calig."""
    tokenizer = pretrained.tokenizer
    return dict(tokenizer(list(texts), padding=True, return_tensors="pt"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
