"""The records that travel between the rooms of the house: documents in, attributions out.

Shapes: T tokens of the document (special tokens included, padding never), L blocks, depths 0..L, C classes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int32]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Document:
    """One input: `key` names its content, `label` is a class index where one is known."""

    key: str
    text: str
    label: int | None = None


def document_key(text: str, label: int | None = None) -> str:
    """SHA-256 (hex) of the canonical input: the text's UTF-8 bytes, then the label where the target is the label."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    if label is not None:
        digest.update(f"\0label={label}".encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """The explanation of one document. All relevance is signed and, but for `relevance` and `scores`, in logits.

    Attributes
    ----------
    key
        The document's key.
    tokens
        T token strings, special tokens included.
    word_ids
        (T,) index of the word a token belongs to, −1 for special tokens.
    char_spans
        (T, 2) start and end of each token in the text, in characters; equal for special tokens.
    is_special
        (T,) true for the tokens that the tokenizer added.
    layer_ig
        (L+1, T) layer-wise integrated gradients, summed over the hidden dimension, depth 0 first.
    context
        (L, T) class-specific attention gradient each token gives as a source, block 1 first.
    context_norm
        (L,) L1 norm of the attention-gradient map Ā of each block, the scale of `context` in the fusion.
    relevance
        (L, T) fused relevance per block.
    scores
        (T,) final signed scores: the sum of `relevance` over blocks.
    target, predicted
        Class indices: the explained and the most probable class.
    logits
        (C,) the model's logits at the input.
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
    """

    key: str
    tokens: list[str]
    word_ids: Int
    char_spans: Int
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


@dataclass(frozen=True, slots=True)
class Failure:
    """A document that could not be explained: `reason` is a short code, `detail` one line."""

    key: str
    reason: str
    detail: str
