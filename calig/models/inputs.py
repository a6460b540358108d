"""What a model is given: encoded inputs of either modality, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from calig.records import Bool, Document, Failure, Int


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B inputs of up to T tokens, as the model takes them.

    Attributes
    ----------
    inputs
        The model's arguments: (B, T) of texts, padded on the right; (B, C, H, W) of images.
    content
        (B, T) true for what a baseline replaces: no special token, and no padding.
    pad_id
        The padding id, where the model's configuration names none: an id that occurs nowhere in the batch.
    """

    inputs: dict[str, Tensor]
    content: Tensor
    pad_id: int | None = None

    @property
    def mask(self) -> Tensor:
        """(B, T) 1 for tokens, 0 for padding, of which images have none."""
        given = self.inputs.get("attention_mask")
        return torch.ones_like(self.content, dtype=torch.long) if given is None else given

    def rows(self, index: Tensor, length: int) -> Batch:
        """The batch whose row r is this one's row index[r], texts cut to their first `length` tokens."""
        inputs = {
            name: value[index, :length] if value.ndim == 2 else value[index]
            for name, value in self.inputs.items()
        }
        return Batch(inputs, self.content[index, :length], self.pad_id)

    def with_pixels(self, pixels: Tensor) -> Batch:
        """The same batch with other images (B, C, H, W)."""
        return replace(self, inputs={**self.inputs, "pixel_values": pixels})


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Encoded:
    """One input as T tokens; what the attributes mean is said in `Attribution`."""

    tokens: list[str]
    word_ids: Int
    char_spans: Int
    segments: Int
    is_special: Bool
    truncated: bool = False
    patches: Int | None = None
    grid: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def shape(self) -> tuple[int, ...]:
        """What inputs must have in common to share a batch."""
        return ()

    def thumbnail(self) -> bytes | None:
        """A small picture of it, as PNG or JPEG, where it is an image."""
        return None


class Encoder(Protocol):
    """Turns documents into what one model reads.

    `window` is how many documents may be held encoded at once.
    """

    window: int

    def read(self, documents: Sequence[Document]) -> Sequence[Encoded | Failure]:
        """Encode documents, in order; one that cannot be becomes a `Failure`."""

    def batch(self, encoded: Sequence[Any], device: torch.device) -> Batch:
        """Put encoded inputs of one shape into a batch."""
