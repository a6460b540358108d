"""Which rows of the last block's output a head reads."""

from __future__ import annotations

from torch import Tensor


def read_out(gradient: Tensor) -> Tensor:
    """(B, T) shares of the rows that the head reads, from the output's gradient (B, T, D) at depth L.

    The gradient's L1 norm per row, scaled to a sum of 1: all at [CLS] for a head that pools there, spread over the
    tokens for a mean, at the last token for a decoder.
    """
    sizes = gradient.abs().sum(dim=-1)
    return sizes / sizes.sum(dim=1, keepdim=True).clamp_min(1e-30)
