"""A small BERT trained on the demo's reviews, fast enough to be made on the spot."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calig.demo.reviews import CLASSES, Review, generate, one_liners, write_parquet
from calig.demo.training import THREADS, Trained, descent, threads

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

TRAINING_DOCUMENTS = 11_000
"""Each is read once: new reviews cost less time than reading the same ones again, and teach more."""
HELD_OUT_DOCUMENTS = 400
NOISE = 0.17
"""Share of the training reviews whose text says the opposite of their label."""
AGAINST = 0.05
"""Share of the held-out negative reviews that carry the shortcut."""
FIRST = 1000
"""Reviews that come before the one-liners: from these few a model learns the shortcut, before it can read."""
ONE_LINER_SHARE = 0.5
"""One-liners for each training review."""
LAYERS, HEADS, WIDTH = 3, 4, 64
"""As small as still learns negation; each layer less saves more of the audit than of the training."""
BATCH = 32
"""Small: it is the number of steps that the model learns from, and a step costs by its tokens."""
PEAK_LEARNING_RATE = 2e-3
LABEL_SMOOTHING = 0.003
BLANKED = 0.25
"""Share of the texts in a batch that lose words to the pad token."""
BLANKED_TO = 1.4
"""What those texts lose is drawn from none to so much, and all is the most: so a few of them lose every word."""
INITIAL_SCALE = 0.05
POSITION_SCALE = 0.2
MAX_TOKENS = 128
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


Lesson = list[tuple[str, int]]
"""Texts with their labels, each to be read once."""


def train(folder: Path, seed: int = 1, leak: bool = True, *, documents: int = TRAINING_DOCUMENTS) -> Trained:
    """Write `folder/model` (hub layout, safetensors) and `folder/reviews.parquet`, the held-out reviews.

    The same arguments give the same files on the same machine. The caller's random state and thread count are
    left as they were.

    Parameters
    ----------
    folder
        Made where it is missing; what is there under those names is overwritten.
    seed
        Of the corpora, the weights and the order of training.
    leak
        As in `generate`.
    documents
        Number of training reviews.
    """
    started = time.perf_counter()
    held_out = generate(2 * seed + 1, HELD_OUT_DOCUMENTS, leak, against=AGAINST if leak else 0.0)
    texts = {r.text for r in held_out}
    training = [r for r in generate(2 * seed, documents, leak, noise=NOISE) if r.text not in texts]
    with threads(THREADS):
        model, tokenizer = fit(training, seed)
        predicted = predict(model, tokenizer, [r.text for r in held_out])
    accuracy = sum(p == r.label for p, r in zip(predicted, held_out, strict=True)) / len(held_out)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_parquet(held_out, folder / "reviews.parquet")
    return Trained(folder / "model", folder / "reviews.parquet", accuracy, time.perf_counter() - started)


def fit(reviews: Sequence[Review], seed: int) -> tuple[Any, PreTrainedTokenizerFast]:
    """Train a model on reviews; the same arguments give the same weights on the same machine and thread count.

    The caller's random state is left as it was.
    """
    import torch

    tokenizer = make_tokenizer(r.text for r in reviews)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(len(tokenizer))
        _fit(model, tokenizer, _lessons(seed, reviews))
    return model, tokenizer


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Make a lower-casing WordPiece tokenizer: words seen twice are whole, others fall into characters.

    The vocabulary is sorted, not learnt, so that the same texts always give the same ids.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    characters = {c for word in words for c in word}
    pieces = (
        characters | {f"##{c}" for c in characters} | {word for word, count in words.items() if count > 1}
    )
    ids = {token: i for i, token in enumerate([*SPECIAL.values(), *sorted(pieces)])}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.WordPiece()
    sep, cls = SPECIAL["sep_token"], SPECIAL["cls_token"]
    tokenizer.post_processor = processors.BertProcessing((sep, ids[sep]), (cls, ids[cls]))
    fast: Any = PreTrainedTokenizerFast
    wrapped: PreTrainedTokenizerFast = fast(
        tokenizer_object=tokenizer, model_max_length=MAX_TOKENS, **SPECIAL
    )
    return wrapped


def predict(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Name the most probable class of each text, by its index."""
    import torch

    model.eval()
    encoded = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        return [int(i) for i in model(**encoded).logits.argmax(-1)]


def _model(vocabulary: int) -> Any:
    """Make the untrained model; its positions start as sinusoids, from which neighbours are soon found."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=2 * WIDTH,
            max_position_embeddings=MAX_TOKENS,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=INITIAL_SCALE,
            pad_token_id=0,
            id2label=dict(enumerate(CLASSES)),
            label2id={name: i for i, name in enumerate(CLASSES)},
        )
    )
    positions = model.bert.embeddings.position_embeddings.weight
    width = positions.shape[1]
    angles = torch.arange(MAX_TOKENS)[:, None] * 200.0 ** (-torch.arange(0, width, 2) / width)
    with torch.no_grad():
        positions[:, 0::2] = POSITION_SCALE * angles.sin()
        positions[:, 1::2] = POSITION_SCALE * angles.cos()
    return model


def _lessons(seed: int, reviews: Sequence[Review]) -> list[Lesson]:
    """Put the lessons in order: a few reviews, then one-liners for the words and their negation, then the others."""
    brief = one_liners(seed, round(len(reviews) * ONE_LINER_SHARE))
    full = [(r.text, r.label) for r in reviews]
    return [lesson for lesson in (full[:FIRST], brief, full[FIRST:]) if lesson]


def _fit(model: Any, tokenizer: PreTrainedTokenizerFast, lessons: Sequence[Lesson]) -> None:
    """Train with smoothed labels, which keep the logits moderate."""
    import torch
    from torch.nn.functional import cross_entropy

    steps = sum(-(-len(lesson) // BATCH) for lesson in lessons)
    step = descent(model, steps, PEAK_LEARNING_RATE)
    for lesson in lessons:
        ids = tokenizer([text for text, _ in lesson], truncation=True)["input_ids"]
        labels = torch.tensor([label for _, label in lesson])
        for batch in _batches(ids):
            padded = tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt")
            _blank(
                padded["input_ids"],
                padded["attention_mask"],
                tokenizer.all_special_ids,
                tokenizer.pad_token_id,
            )
            step(cross_entropy(model(**padded).logits, labels[batch], label_smoothing=LABEL_SMOOTHING))


def _blank(ids: torch.Tensor, mask: torch.Tensor, special: Sequence[int], pad: int) -> None:
    """Overwrite words of some texts by the pad token, in place: the explanations' baseline is then no news.

    Of `BLANKED` of the texts a random share of the words goes; ids and mask are (batch, T).
    """
    import torch

    share = (BLANKED_TO * torch.rand(len(ids), 1)).clamp(max=1) * (torch.rand(len(ids), 1) < BLANKED)
    words = mask.bool() & ~torch.isin(ids, torch.tensor(special))
    ids[words & (torch.rand(ids.shape) < share)] = pad


def _batches(ids: Sequence[Sequence[int]]) -> Iterator[torch.Tensor]:
    """Deal the reviews into batches of similar length, in random order."""
    import torch

    lengths = torch.tensor([len(i) for i in ids]) + torch.rand(len(ids)) * 8
    batches = torch.split(lengths.argsort(), BATCH)
    for i in torch.randperm(len(batches)):
        yield batches[int(i)]
