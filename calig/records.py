"""The records that travel between the rooms of the house: documents in, attributions out.

Shapes: T tokens of the document (special tokens included, padding never), L blocks, depths 0..L, C classes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int32]
Bool = npt.NDArray[np.bool_]

Head: TypeAlias = Literal["single_label", "multi_label", "binary", "regression"]
"""What a model's outputs are: logits under one softmax, under a sigmoid each, the one logit of two classes, values."""
HEADS: tuple[Head, ...] = get_args(Head)

Modality: TypeAlias = Literal["text", "image"]
"""What a model reads, and a corpus holds."""
MODALITIES: tuple[Modality, ...] = get_args(Modality)


NO_LABEL = "no-label"
"""Reason of the failure of a document whose label is to be explained, and which has none."""

DOCUMENT_VIEW = (
    *("run_id", "doc_id", "source_id", "doc_key", "text", "text_pair", "image", "label"),
    *("label_id", "labels", "label_value", "predicted", "predicted_id", "predicted_labels"),
    *("target", "target_id", "correct", "probability", "logits", "logit", "baseline_logit", "error_estimate"),
    *(
        "completeness_error",
        "converged",
        "in_statistics",
        "nodes",
        "block_passes",
        "tokens",
        "grid_rows",
        "grid_columns",
    ),
    *("truncated", "seconds", "settling_depth", "failure"),
)
"""The columns that the view `documents` has beside those of the corpus, which get other names where these are taken."""


def free_name(name: str, ours: Collection[str], taken: set[str]) -> str:
    """Return the name of a column of the corpus in SQL: the name itself, or one that is free, which is then taken.

    One of ours becomes `corpus_<name>`, and one that is taken ends in _1, _2, …

    Parameters
    ----------
    name
        As the corpus has it.
    ours
        Names that calig's own columns have.
    taken
        Names that are not free. These and `ours` are in lower case, since SQL's names do not differ by case.
    """
    plain = f"corpus_{name}" if name.lower() in ours else name
    free, number = plain, 0
    while free.lower() in taken:
        number += 1
        free = f"{plain}_{number}"
    taken.add(free.lower())
    return free


@dataclass(frozen=True, slots=True)
class Document:
    """One input: `key` names its content, `label` is a class index where one is known, `pair` a second text.

    `image`: the bytes of an image file, the path of one, a PIL image, or a (C, H, W) tensor; None for texts.
    """

    key: str
    text: str = ""
    label: int | None = None
    pair: str | None = None
    image: Any = None


def document_key(text: str, pair: str | None = None) -> str:
    """SHA-256 (hex) of the canonical input.

    The text's UTF-8 bytes; of a pair also 0xFF, which UTF-8 never holds, and the second text's.
    """
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    if pair is not None:
        digest.update(b"\xff" + pair.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def image_key(data: bytes) -> str:
    """SHA-256 (hex) of an image file's bytes."""
    return hashlib.sha256(data).hexdigest()


def missing_image_key(path: str) -> str:
    """Key of a document whose image file was not there when the corpus was brought in."""
    return image_key(b"missing:" + path.encode())


def outside_image_key(path: str) -> str:
    """Key of a document whose image file is not below the corpus's folder, and is not opened."""
    return image_key(b"outside:" + path.encode())


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """The explanation of one document. All relevance is signed and, but for `relevance` and `scores`, in logits.

    Attributes
    ----------
    key
        The document's key.
    tokens
        T token strings, special tokens included; an image's patch is "row,column".
    word_ids
        (T,) index of the word that holds most of a token (`calig.words`), −1 for special tokens, patches, and tokens in
        no word, such as line breaks.
    char_spans
        (T, 2) start and end of each token in its own text, in characters; equal for special tokens and patches.
    segments
        (T,) the text a token belongs to: 0 the first or only one, 1 the second of a pair, −1 for special tokens and
        patches.
    is_special
        (T,) true for the tokens that the tokenizer, or an image model, added.
    layer_ig
        (L+1, T) layer-wise integrated gradients, summed over the hidden dimension, depth 0 first.
    context
        (L, T) class-specific attention gradient each token gives as a source, block 1 first: the mean over heads.
    context_norm
        (L,) scale of `context` in the `column` fusion: its L1 norm or, taken at the input alone, that of the map Ā.
    relevance
        (L, T) fused relevance per block.
    scores
        (T,) final signed scores: the sum of `relevance` over blocks.
    target, predicted
        Class indices: the explained class, and that of the highest logit (of a regression: the explained output).
    rival
        The class of the highest logit beside the target's, over which the margin is taken at the input; None where the
        output is no margin.
    logits
        (C,) the model's logits at the input; of one logit z, 0 and z; of a regression, its values.
    logit, baseline_logit
        The explained output at the input and at the baseline input.
    completeness_error
        (L+1,) |Σ_t layer_ig[l, t] − (logit − baseline_logit)|, in logits.
    error_estimate
        (L+1,) estimated relative L2 error of layer_ig[l].
    converged
        (L+1,) whether the error estimate and the relative completeness residual are within the tolerance.
    nodes
        (L+1,) quadrature nodes spent.
    block_passes
        Forward-plus-backward passes of one block spent on this document.
    seconds
        Share of the wall-clock time of the batch it was computed in.
    truncated
        Whether the text was longer than the model takes.
    head
        What the logits are.
    heads
        Attention heads of a block: `context` times these is in logits.
    patches
        (T, 2) row and column of each patch in the image, −1 for special tokens; None for texts.
    grid
        Rows and columns of patches; None for texts.
    thumbnail
        PNG or JPEG of an image as the model saw it, its longest side 128 pixels at most; None for texts.
    """

    key: str
    tokens: list[str]
    word_ids: Int
    char_spans: Int
    segments: Int
    is_special: Bool
    layer_ig: Float
    context: Float
    context_norm: Float
    relevance: Float
    scores: Float
    target: int
    predicted: int
    logits: Float
    logit: float
    baseline_logit: float
    completeness_error: Float
    error_estimate: Float
    converged: Bool
    nodes: Int
    block_passes: int
    seconds: float
    truncated: bool
    head: Head = "single_label"
    heads: int = 1
    patches: Int | None = None
    grid: tuple[int, int] | None = None
    thumbnail: bytes | None = None
    rival: int | None = None

    @property
    def probabilities(self) -> npt.NDArray[np.float64] | None:
        """(C,) probabilities of the logits, as in `probabilities`."""
        return probabilities(self.logits.astype(np.float64), self.head)


def probabilities(logits: npt.NDArray[np.float64], head: Head) -> npt.NDArray[np.float64] | None:
    """(C,) softmax of the logits (C,); multi-label: the sigmoid of each; None for a regression."""
    if head == "regression":
        return None
    if head == "multi_label":
        small = np.exp(-np.abs(logits))  # never overflows
        return np.asarray(np.where(logits >= 0, 1.0, small) / (1 + small))
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


ALL_CLASSES = "*"
"""Stands for all classes in tables whose rows are of one class or of all."""


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of classes by which they are told apart, in index order.

    A name that several classes have, or that stands for all classes in tables, gets the index of its class: `neutral`
    becomes `neutral (0)` and `neutral (1)`.
    """
    counts = Counter(names)
    numbered = [
        f"{name} ({index})" if counts[name] > 1 or name == ALL_CLASSES else name
        for index, name in enumerate(names)
    ]
    return tuple(numbered) if len(set(numbered)) == len(numbered) else distinct_names(numbered)


@dataclass(frozen=True, slots=True)
class Failure:
    """A document that could not be explained: `reason` is a short code, `detail` one line.

    `target` is the class that could not be; None where the document cannot be read, or no class was asked for by name.
    """

    key: str
    reason: str
    detail: str
    target: int | None = None
