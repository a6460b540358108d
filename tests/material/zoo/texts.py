"""Small random classifiers of texts, their tokenizers, and texts; a new family is one line of `FAMILIES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

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
    tokenizer.post_processor = in_tokens(template)
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
    tokenizer.post_processor = in_tokens(template)
    names = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
    return _wrap(tokenizer, {**names, "cls": "<s>", "sep": "</s>"}, ["input_ids", "attention_mask"])


def in_tokens(single: str) -> processors.PostProcessor:
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
    drawn: ClassVar[torch.dtype] = torch.float32

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it."""
        return self.pools == "last"

    def build(self, config: dict[str, Any]) -> Any:
        """A model of the family, with as many tokens as its tokenizer has."""
        numbered = self.pad + 1 if self.numbers == "padding" else 0
        usual = {
            "vocab_size": len(self.tokenizer()),
            "max_position_embeddings": POSITIONS + numbered,
            "pad_token_id": self.pad,
            "initializer_range": SPREAD,
            "id2label": dict(enumerate(CLASSES)),
            "label2id": {name: i for i, name in enumerate(CLASSES)},
        }
        made = getattr(transformers, f"{self.stem}Config")(**{**usual, **self.options(), **config})
        return getattr(transformers, f"{self.stem}ForSequenceClassification")(made)

    def preprocessor(self) -> PreTrainedTokenizerFast:
        """What is saved beside the model."""
        return self.tokenizer()


def sizes(**others: Any) -> Callable[[], dict[str, Any]]:
    usual = {"hidden_size": HIDDEN, "num_hidden_layers": BLOCKS, "num_attention_heads": HEADS}
    return lambda: {**usual, "intermediate_size": 2 * HIDDEN, **others}


def _encoder(stem: str, base: str, tokenizer: Any, pad: int, **facts: Any) -> Family:
    layer = f"{base}.encoder.layer.{{}}" + (".output" if "dropout" in facts else "")
    return Family(
        stem,
        tokenizer,
        pad,
        **{"options": sizes(), "embeddings": f"{base}.embeddings", "block": layer, **facts},
    )


def _decoder(stem: str, tokenizer: Any, pad: int, **facts: Any) -> Family:
    layers, embeddings = "model.layers.{}", "model.embed_tokens"
    usual = {"options": sizes(**LLAMA), "embeddings": embeddings, "block": layers, "norm": "model.norm"}
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
        options=sizes(embedding_size=16),
        embeddings="electra.embeddings_project",
    ),
    "albert": _encoder(
        "Albert",
        "albert",
        WORDPIECE,
        0,
        options=sizes(embedding_size=16),
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
        options=sizes(position_biased_input=False, norm_rel_ebd="layer_norm", **DEBERTA),
        dropout="attention.self.dropout",
    ),
    "modernbert": _encoder(
        "ModernBert",
        "model",
        WORDPIECE,
        0,
        options=sizes(classifier_pooling="cls", **MODERN),
        block="model.layers.{}",
        norm="model.final_norm",
    ),
    "modernbert-mean": _encoder(
        "ModernBert",
        "model",
        WORDPIECE,
        0,
        options=sizes(classifier_pooling="mean", **MODERN),
        block="model.layers.{}",
        norm="model.final_norm",
        pools="mean",
    ),
    "rembert": _encoder(
        "RemBert",
        "rembert",
        PIECES,
        1,
        options=sizes(input_embedding_size=16, bos_token_id=0, eos_token_id=2),
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
        sizes(ffn_dim=48, word_embed_proj_dim=HIDDEN),
        None,
        "model.decoder.layers.{}",
        pools="last",
        numbers="none",
        norm="model.decoder.final_layer_norm",
        kinks=True,
    ),
    "llama": _decoder("Llama", PIECES.begun(), 1),
    "mistral": _decoder("Mistral", PIECES.begun(), 1, options=sizes(sliding_window=6, **LLAMA)),
    "qwen2": _decoder("Qwen2", BYTES.bare(), 2, options=sizes(use_sliding_window=True, **LLAMA, **WINDOW)),
    "qwen3": _decoder("Qwen3", BYTES.bare(), 2),
    "gemma": _decoder("Gemma", PIECES.begun(), 1),
    "gemma3": _decoder("Gemma3Text", PIECES.begun(), 1, options=sizes(**LLAMA, **WINDOW)),
}


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
