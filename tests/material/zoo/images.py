"""Small random classifiers of images, and pictures; a new family is one line of `FAMILIES`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import transformers
from PIL import Image

CLASSES = ("cat", "dog", "fox")
SIDE, PATCH, HIDDEN, HEADS, BLOCKS = 24, 8, 24, 3, 3
SPREAD = 0.2
"""Standard deviation of the random weights: large enough that no model is nearly linear."""


@dataclass(frozen=True)
class Family:
    """A transformers family, and what tests must know of it to derive its answers a second way.

    stem
        Its class names' stem.
    options
        Its configuration beyond the usual sizes.
    special
        Tokens before the patches.
    embeddings, block
        Paths of the modules whose outputs are the hidden states at depth 0 and depth l ({}: block l from 0 on);
        `embeddings` None: what block 0 is given.
    mask
        Whether it has a mask token.
    dropout
        Path, within a block, of the dropout that attention probabilities pass, where attention is the family's own.
    """

    stem: str
    embeddings: str | None
    block: str
    special: tuple[str, ...] = ("[CLS]",)
    options: dict[str, Any] = field(default_factory=dict)
    head: str = "ForImageClassification"
    mask: bool = False
    config: Callable[[dict[str, Any]], Any] | None = None
    dropout: str | None = None
    written_out: ClassVar[None] = None
    drawn: ClassVar[torch.dtype] = torch.float64

    def build(self, config: dict[str, Any]) -> Any:
        """A model of the family."""
        options = {
            "image_size": SIDE,
            "patch_size": PATCH,
            "hidden_size": HIDDEN,
            "num_hidden_layers": BLOCKS,
            "num_attention_heads": HEADS,
            "intermediate_size": 2 * HIDDEN,
            "initializer_range": SPREAD,
            "id2label": dict(enumerate(CLASSES)),
            "label2id": {name: i for i, name in enumerate(CLASSES)},
            **self.options,
            **config,
        }
        make = self.config or (lambda o: getattr(transformers, f"{self.stem}Config")(**o))
        return getattr(transformers, self.stem + self.head)(make(options))

    def preprocessor(self) -> Any:
        """What is saved beside the model."""
        return processor()


def _vision(name: str) -> Callable[[dict[str, Any]], Any]:
    """A configuration whose vision tower has one of its own."""

    def make(options: dict[str, Any]) -> Any:
        labels = {key: options.pop(key) for key in ("id2label", "label2id")}
        return getattr(transformers, f"{name}Config")(vision_config=options, **labels)

    return make


FAMILIES = {
    "vit": Family("ViT", "vit.embeddings", "vit.layers.{}"),
    "vit-mae": Family("ViT", "vit.embeddings", "vit.layers.{}"),
    "deit": Family("DeiT", "deit.embeddings", "deit.layers.{}", ("[CLS]", "[DIST]")),
    "deit-teacher": Family(
        "DeiT",
        "deit.embeddings",
        "deit.layers.{}",
        ("[CLS]", "[DIST]"),
        head="ForImageClassificationWithTeacher",
    ),
    "beit": Family(
        "Beit",
        "beit.embeddings",
        "beit.layers.{}",
        options={"use_mask_token": True, "use_relative_position_bias": True, "layer_scale_init_value": 0.5},
        mask=True,
    ),
    "beit-shared": Family(
        "Beit",
        "beit.embeddings",
        "beit.layers.{}",
        options={
            "use_shared_relative_position_bias": True,
            "use_absolute_position_embeddings": True,
            "use_mean_pooling": False,
            "layer_scale_init_value": 0.5,
        },
    ),
    "dinov2": Family("Dinov2", "dinov2.embeddings", "dinov2.encoder.layer.{}", mask=True),
    "dinov2-registers": Family(
        "Dinov2WithRegisters",
        "dinov2_with_registers.embeddings",
        "dinov2_with_registers.encoder.layer.{}",
        ("[CLS]", "[REG1]", "[REG2]"),
        options={"num_register_tokens": 2},
        mask=True,
    ),
    "siglip": Family(
        "Siglip", "vision_model.embeddings", "vision_model.encoder.layers.{}", (), config=_vision("Siglip")
    ),
    "clip": Family(
        "CLIP", "vision_model.pre_layrnorm", "vision_model.encoder.layers.{}", config=_vision("CLIP")
    ),
    "vit-msn": Family("ViTMSN", "vit.embeddings", "vit.layers.{}"),
    "ijepa": Family("IJepa", "ijepa.embeddings", "ijepa.layers.{}", ()),
    "data2vec": Family(
        "Data2VecVision",
        None,
        "data2vec_vision.encoder.layer.{}",
        dropout="attention.attention.dropout",
    ),
}


def processor(**options: Any) -> Any:
    """An image processor of the usual kind."""
    half = [0.5, 0.5, 0.5]
    usual = {"size": {"height": SIDE, "width": SIDE}, "image_mean": half, "image_std": half}
    flags = {"do_normalize": True, "do_rescale": True, "do_resize": True, "resample": 2}
    kind = {"image_processor_type": "ViTImageProcessor"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "preprocessor_config.json")
        path.write_text(json.dumps({**kind, **flags, **usual, **options}))
        return transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")


def pictures(count: int, side: int = SIDE, seed: int = 3) -> list[Image.Image]:
    """RGB pictures of smooth colours."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return [Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC) for c in coarse]


def pixels(images: list[Image.Image]) -> torch.Tensor:
    """(B, 3, H, W) in float64: what the zoo's processor makes of pictures of the model's own size, in plain NumPy."""
    stacked = np.stack([np.asarray(image, dtype=np.float64) for image in images])
    return torch.from_numpy(stacked / 255).sub(0.5).div(0.5).permute(0, 3, 1, 2).contiguous()
