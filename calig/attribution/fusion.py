"""Fusing layer-wise integrated gradients with attention gradients into signed relevance.

`agreement` is the default: measured on development data of four corpora it was the most faithful (see
tests/benchmarks/results/evidence.md). `column` is the fusion as reconstructed from the paper, on the same numbers.
"""

from __future__ import annotations

import numpy as np

from calig.attribution.quadrature import Float64
from calig.records import Bool, Float


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


def depth_weights(layer_ig: Float, context: Float, is_special: Bool) -> Float64:
    """How much each depth 0..L−1 counts in the `agreement` fusion: (L,), of sum 1.

    w[l] ∝ max(0, cos(LIG[l], J))², over the content, with J = LIG[0] / ‖LIG[0]‖ + C / ‖C‖ and C = Σ_l ctx[l]. The
    deeper a state, the more of other tokens is in it: a depth speaks of the document's own tokens as far as it agrees
    with depth 0, where each is still itself. But of a long document the path at depth 0 leads far from anything that
    the model knows; what tokens give to others as sources of attention speaks of them as well, and needs no such path.

    Parameters
    ----------
    layer_ig
        (L+1, T) LIG per depth.
    context
        (L, T) attention gradient that each token gives as a source, per block.
    is_special
        (T,) tokens that are no content.
    """
    units = directions(layer_ig[:-1, ~is_special].astype(np.float64))
    given = directions(context[:, ~is_special].astype(np.float64).sum(axis=0))
    squares = np.maximum(units @ directions(units[0] + given), 0) ** 2
    total = squares.sum()
    return squares / total if total > 0 else np.full(len(units), 1 / len(units))


def directions(rows: Float64) -> Float64:
    """Rows (…, n) scaled to norm 1; those of zeros as they are."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    scaled: Float64 = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return scaled


def agreement(layer_ig: Float, context: Float, heads: int, is_special: Bool, weight: float) -> Float:
    """Relevance (L, T) of the `agreement` fusion, in logits; the scores are its sum over blocks.

    r[l] = w[l]·((1 − λ)·LIG[l−1] + λ·H·ctx[l]) for block l = 1..L of H heads: what block l makes of a token by way of
    its state, and what the token gives to others there, both in logits, as depths are trusted (`depth_weights`).
    λ = 0 keeps completeness: the scores then sum to Δy.

    Parameters
    ----------
    layer_ig
        (L+1, T) LIG per depth; depth L, the head's input, is not fused.
    context
        (L, T) attention gradient that each token gives as a source, per block: the mean over heads.
    heads
        H.
    is_special
        (T,) tokens that are no content.
    weight
        λ in [0, 1].
    """
    shares = depth_weights(layer_ig, context, is_special)[:, None]
    terms = (1 - weight) * layer_ig[:-1].astype(np.float64) + weight * heads * context.astype(np.float64)
    fused: Float = (shares * terms).astype(np.float32)
    return fused


def rollout(layer_ig: Float, maps: Float, read_out: Float, weight: float) -> Float:
    """Scores (T,) of the `rollout` fusion: signed attention rollout, read where the head reads.

    R ← R + C[l]·R from R = I, for blocks l = 1..L, with C[l] = (1 − λ)·diag(LIG[l−1]) + λ·Ā[l], each scaled to a
    largest magnitude of 1; the scores are Σ_i read_out[i]·(R − I)[i, ·] (Chefer, Gur, Wolf 2021, equation 6, signed).

    Parameters
    ----------
    layer_ig
        (L+1, T) LIG per depth; depth L is not fused.
    maps
        (L, T, T) Ā[l], the mean over heads of A ⊙ ∂y/∂A, queries first.
    read_out
        (T,) shares of the rows that the head reads.
    weight
        λ in [0, 1].
    """
    carried = np.eye(layer_ig.shape[1])
    for ig, attention in zip(layer_ig[:-1].astype(np.float64), maps.astype(np.float64), strict=True):
        mixed = (1 - weight) * np.diag(_scaled(ig)) + weight * _scaled(attention)
        carried = carried + mixed @ carried
    scores: Float = (read_out @ (carried - np.eye(len(carried)))).astype(np.float32)
    return scores


def trace(layer_ig: Float, maps: Float, weight: float) -> Float:
    """Scores (T,) of the `trace` fusion: LIG at every depth carried back to the input tokens; their sum is Δy.

    A block hands a token's relevance back by a row-stochastic matrix, M[l] = (1 − λ)·I + λ·rownorm(relu Ā[l]), in which
    a row without positive entries is left where it is; the scores are the mean over depths l = 0..L−1 of
    LIG[l]·M[l]·…·M[1]. λ = 0 leaves the mean of LIG in logits.

    Parameters
    ----------
    layer_ig, maps, weight
        As for `rollout`.
    """
    size = layer_ig.shape[1]
    total, back = np.zeros(size), np.eye(size)
    for ig, attention in zip(layer_ig[:-1].astype(np.float64), maps.astype(np.float64), strict=True):
        total += ig @ back
        positive = np.maximum(attention, 0)
        sums = positive.sum(axis=1, keepdims=True)
        mixing = np.where(sums > 0, np.divide(positive, sums, out=positive, where=sums > 0), np.eye(size))
        back = ((1 - weight) * np.eye(size) + weight * mixing) @ back
    scores: Float = (total / len(maps)).astype(np.float32)
    return scores


def _scaled(values: Float64) -> Float64:
    largest = np.abs(values).max(initial=0.0)
    return values / largest if largest > 0 else values
