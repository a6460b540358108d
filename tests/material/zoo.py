"""Small random classifiers of several families, saved as the hub would; a new family is one line of `FAMILIES`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedTokenizerFast

from calig.attribution.explainer import Explainer
from calig.attribution.method import Method
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


def byte_level(template: str = "<s> $A </s>") -> PreTrainedTokenizerFast:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the", "Ġa", "go", "od"]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "a"), ("g", "o"), ("o", "d")]
    tokenizer = Tokenizer(models.BPE({p: i for i, p in enumerate(vocabulary)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = _template(template)
    names = dict(zip(("bos", "pad", "eos", "unk", "mask"), special, strict=True), cls="<s>", sep="</s>")
    return _wrap(tokenizer, names, ["input_ids", "attention_mask"])


def unigram(template: str = "<s> $A </s>") -> PreTrainedTokenizerFast:
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = sorted(set("abcdefghijklmnopqrstuvwxyz,.!'▁"))
    scores = [(p, 0.0) for p in special] + [(f"▁{w}", -3.0) for w in sorted(set(WORDS))]
    scores += [(c, -6.0) for c in letters] + [("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = _template(template)
    names = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
    return _wrap(tokenizer, {**names, "cls": "<s>", "sep": "</s>"}, ["input_ids", "attention_mask"])


def _template(single: str) -> processors.PostProcessor:
    """A text in its special tokens; in a pair, the second text between `</s>` twice over, as RoBERTa has it."""
    second = single.replace("<s>", "</s>").replace("$A", "$B")
    return processors.TemplateProcessing(
        single=single, pair=f"{single} {second}", special_tokens=[("<s>", 0), ("</s>", 2)]
    )


def _wrap(tokenizer: Tokenizer, names: dict[str, str], inputs: list[str]) -> PreTrainedTokenizerFast:
    named = {f"{role}_token": token for role, token in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **named)


@dataclass(frozen=True)
class Spelling:
    """A tokenizer, and what tests must know of it.

    before, after: special tokens that it puts around a text; cased: whether it keeps case; spaces: whether it makes
    tokens of them; unit: what is one token more each time it is written again.
    """

    make: Callable[[str], PreTrainedTokenizerFast]
    cased: bool
    spaces: bool
    unit: str
    template: str = "<s> $A </s>"
    before: int = 1
    after: int = 1
    pad_is_end: bool = False

    def __call__(self) -> PreTrainedTokenizerFast:
        tokenizer = self.make(self.template)
        if self.pad_is_end:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def begun(self) -> Spelling:
        """As decoders often have it: a special token before the text and none after it."""
        return replace(self, template="<s> $A", after=0)

    def bare(self) -> Spelling:
        """As decoders often have it: no token but the text's own, and padding is the end-of-text token."""
        return replace(self, template="$A", before=0, after=0, pad_is_end=True)


WORDPIECE = Spelling(lambda _: wordpiece(), cased=False, spaces=False, unit="a ")
BYTES = Spelling(byte_level, cased=True, spaces=True, unit="a")
PIECES = Spelling(unigram, cased=True, spaces=True, unit="a ")


@dataclass(frozen=True)
class Family:
    """A transformers family, and what tests must know of it to derive its answers a second way.

    Parameters
    ----------
    stem, tokenizer, pad, options
        Its class names' stem, its tokenizer, its pad id, and its configuration.
    embeddings, block
        Paths of the modules whose outputs are the hidden states at depth 0 and depth l ({}: block l from 0 on);
        `embeddings` None: what block 0 is given.
    pools
        The row that the head reads: `first`, `mean` or `last`.
    numbers
        How positions are numbered: by `index`, by counting what is not `padding` from its id + 1 on, or not by ids
        and not to be given (`none`).
    norm
        Path of the norm between the last block and the head, which `hidden_states[-1]` has passed.
    dropout
        Path, within a block, of the dropout that attention probabilities pass, where attention is the family's own.
    written_out
        Configuration under which a model with shared blocks has one module for each.
    kinks
        Whether a ReLU makes the integrand rough.
    """

    stem: str
    tokenizer: Spelling
    pad: int
    options: Callable[[], dict[str, Any]]
    embeddings: str | None
    block: str
    pools: str = "first"
    numbers: str = "index"
    norm: str | None = None
    dropout: str | None = None
    written_out: dict[str, Any] | None = None
    kinks: bool = False

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it."""
        return self.pools == "last"


def _sizes(**others: Any) -> Callable[[], dict[str, Any]]:
    usual = {"hidden_size": HIDDEN, "num_hidden_layers": BLOCKS, "num_attention_heads": HEADS}
    return lambda: {**usual, "intermediate_size": 2 * HIDDEN, **others}


def _encoder(stem: str, base: str, tokenizer: Any, pad: int, **facts: Any) -> Family:
    layer = f"{base}.encoder.layer.{{}}" + (".output" if "dropout" in facts else "")
    return Family(
        stem,
        tokenizer,
        pad,
        **{"options": _sizes(), "embeddings": f"{base}.embeddings", "block": layer, **facts},
    )


def _decoder(stem: str, tokenizer: Any, pad: int, **facts: Any) -> Family:
    layers, embeddings = "model.layers.{}", "model.embed_tokens"
    usual = {"options": _sizes(**LLAMA), "embeddings": embeddings, "block": layers, "norm": "model.norm"}
    return Family(stem, tokenizer, pad, pools="last", **{**usual, **facts})


CALM = 0.12
"""`SPREAD` for decoders, whose hidden states are not normalised between blocks: paths to a baseline are rougher."""
LLAMA = {
    "initializer_range": CALM,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
WINDOW = {"sliding_window": 6, "layer_types": ["full_attention", "sliding_attention", "full_attention"]}
"""Attention of two kinds, of which a block's place decides; the window is shorter than most of `TEXTS`."""
DEBERTA = {
    "relative_attention": True,
    "position_buckets": 8,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
}
MODERN = {
    "local_attention": 6,
    "layer_types": WINDOW["layer_types"],
    **{f"{role}_token_id": i for role, i in (("cls", 2), ("sep", 3), ("bos", 2), ("eos", 3))},
}

FAMILIES = {
    "bert": _encoder("Bert", "bert", WORDPIECE, 0),
    "roberta": _encoder("Roberta", "roberta", BYTES, 1, numbers="padding"),
    "xlm-roberta": _encoder("XLMRoberta", "roberta", PIECES, 1, numbers="padding"),
    "camembert": _encoder("Camembert", "roberta", PIECES, 1, numbers="padding"),
    "afrolm": _encoder("XLMRoberta", "roberta", WORDPIECE, 0, numbers="padding"),
    "distilbert": Family(
        "DistilBert",
        WORDPIECE,
        0,
        lambda: {"dim": HIDDEN, "n_layers": BLOCKS, "n_heads": HEADS, "hidden_dim": 48},
        "distilbert.embeddings",
        "distilbert.transformer.layer.{}",
        numbers="none",
        kinks=True,
    ),
    "electra": _encoder(
        "Electra",
        "electra",
        WORDPIECE,
        0,
        options=_sizes(embedding_size=16),
        embeddings="electra.embeddings_project",
    ),
    "albert": _encoder(
        "Albert",
        "albert",
        WORDPIECE,
        0,
        options=_sizes(embedding_size=16),
        embeddings="albert.encoder.embedding_hidden_mapping_in",
        block="albert.encoder.albert_layer_groups.{}",
        written_out={"num_hidden_groups": BLOCKS},
    ),
    "mpnet": _encoder("MPNet", "mpnet", BYTES, 1, numbers="padding", dropout="attention.attn.dropout"),
    "deberta-v2": _encoder(
        "DebertaV2",
        "deberta",
        PIECES,
        1,
        options=_sizes(position_biased_input=False, norm_rel_ebd="layer_norm", **DEBERTA),
        dropout="attention.self.dropout",
    ),
    "modernbert": _encoder(
        "ModernBert",
        "model",
        WORDPIECE,
        0,
        options=_sizes(classifier_pooling="cls", **MODERN),
        block="model.layers.{}",
        norm="model.final_norm",
    ),
    "modernbert-mean": _encoder(
        "ModernBert",
        "model",
        WORDPIECE,
        0,
        options=_sizes(classifier_pooling="mean", **MODERN),
        block="model.layers.{}",
        norm="model.final_norm",
        pools="mean",
    ),
    "rembert": _encoder(
        "RemBert",
        "rembert",
        PIECES,
        1,
        options=_sizes(input_embedding_size=16, bos_token_id=0, eos_token_id=2),
        embeddings="rembert.encoder.embedding_hidden_mapping_in",
        dropout="attention.self.dropout",
    ),
    "roformer": _encoder(
        "RoFormer", "roformer", WORDPIECE, 0, numbers="none", dropout="attention.self.dropout"
    ),
    "ernie": _encoder("Ernie", "ernie", WORDPIECE, 0),
    "gpt2": Family(
        "GPT2",
        BYTES.bare(),
        2,
        lambda: {"n_embd": HIDDEN, "n_layer": BLOCKS, "n_head": HEADS, "bos_token_id": 2, "eos_token_id": 2},
        "transformer.drop",
        "transformer.h.{}",
        pools="last",
        norm="transformer.ln_f",
    ),
    "opt": Family(
        "OPT",
        BYTES.begun(),
        1,
        _sizes(ffn_dim=48, word_embed_proj_dim=HIDDEN),
        None,
        "model.decoder.layers.{}",
        pools="last",
        numbers="none",
        norm="model.decoder.final_layer_norm",
        kinks=True,
    ),
    "llama": _decoder("Llama", PIECES.begun(), 1),
    "mistral": _decoder("Mistral", PIECES.begun(), 1, options=_sizes(sliding_window=6, **LLAMA)),
    "qwen2": _decoder("Qwen2", BYTES.bare(), 2, options=_sizes(use_sliding_window=True, **LLAMA, **WINDOW)),
    "qwen3": _decoder("Qwen3", BYTES.bare(), 2),
    "gemma": _decoder("Gemma", PIECES.begun(), 1),
    "gemma3": _decoder("Gemma3Text", PIECES.begun(), 1, options=_sizes(**LLAMA, **WINDOW)),
}
FEW = ("bert", "roberta", "mpnet", "modernbert", "gpt2", "gemma3")
"""One of each kind, for what is slow."""
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
            "max_position_embeddings": POSITIONS + (family.pad + 1 if family.numbers == "padding" else 0),
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
    token_budget: int | None = None,
    pretrained: Pretrained | None = None,
    **method: Any,
) -> Explainer:
    """Explain with the family's model."""
    return Explainer(pretrained or load(name, dtype), Method(**method), token_budget=token_budget)


def positions(family: Family, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Position numbers (B, T) of an input, counted in plain Python."""
    rows = []
    for row, real in zip(ids.tolist(), mask.tolist(), strict=True):
        count, numbers = 0, []
        for token, there in zip(row, real, strict=True):
            counts = token != family.pad if family.numbers == "padding" else there
            first = family.pad + 1 if family.numbers == "padding" else 0
            numbers.append(first + count if counts else max(first - 1, 0))
            count += counts
        rows.append(numbers)
    return torch.tensor(rows)


def answer(
    family: Family, model: Any, ids: torch.Tensor, mask: torch.Tensor, numbers: torch.Tensor
) -> torch.Tensor:
    """The model's logits on ids, with the position numbers and the pooled row of *another* input, handed to it.

    Decoders' heads are written out: the scores of the last row that is not masked.
    """
    known = {} if family.numbers == "none" else {"position_ids": numbers}
    if family.pools != "last":
        return model(input_ids=ids, attention_mask=mask, **known).logits
    states = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False, **known).last_hidden_state
    places = torch.arange(mask.shape[1]).expand_as(mask)
    return model.score(states)[torch.arange(len(ids)), (places * mask).argmax(1)]


def inputs(pretrained: Pretrained, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """Padded ids and mask straight from the tokenizer, without calig."""
    tokenizer = pretrained.tokenizer
    return dict(tokenizer(list(texts), padding=True, return_tensors="pt"))


class InDouble(TorchFunctionMode):
    """Nothing of a float64 model is computed in float32, as some families do in norms, rotations and softmax."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        double = bool(args) and isinstance(args[0], torch.Tensor) and args[0].dtype is torch.float64
        if double and kwargs.get("dtype") is torch.float32:
            kwargs.pop("dtype")
        if double and func is torch.Tensor.float:
            return args[0]
        if double and func is torch.Tensor.to and (args[1:] == (torch.float32,) or not (args[1:] or kwargs)):
            return args[0]
        return func(*args, **kwargs)


@pytest.fixture
def in_double() -> Iterator[None]:
    with InDouble():
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
