"""Fusing layer-wise integrated gradients with attention gradients into signed relevance."""

from __future__ import annotations

import numpy as np

from calig.records import Float


def column(layer_ig: Float, context: Float, context_norm: Float, weight: float) -> Float:
    """Relevance (L, T) of the `column` fusion; the scores are its sum over blocks.

    r[l] = (1 − λ)·LIG[l−1] / ‖LIG[l−1]‖₁ + λ·ctx[l] / ‖Ā[l]‖₁ for block l = 1..L; a zero norm gives a zero term.

    Parameters
    ----------
    layer_ig
        (L+1, T) LIG per depth; depth L, the head's input, is not fused.
    context
        (L, T) attention gradient that each token gives as a source, per block.
    context_norm
        (L,) ‖Ā[l]‖₁ of each block's attention-gradient map.
    weight
        λ in [0, 1].
    """
    ig = layer_ig[:-1].astype(np.float64)
    ig_norm = np.abs(ig).sum(axis=1, keepdims=True)
    ctx_norm = context_norm.astype(np.float64)[:, None]
    ig_term = np.divide(ig, ig_norm, out=np.zeros_like(ig), where=ig_norm > 0)
    ctx_term = np.divide(context, ctx_norm, out=np.zeros_like(ig), where=ctx_norm > 0)
    fused: Float = ((1 - weight) * ig_term + weight * ctx_term).astype(np.float32)
    return fused
