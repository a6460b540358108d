"""A made-up input on which a model is tried."""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedModel

from calig.models.images import Geometry
from calig.models.text import embedded_ids


def tiny_inputs(model: PreTrainedModel) -> dict[str, Tensor]:
    """One input: four token ids and their mask (1, 4), or an image (1, C, H, W) of the model's own size."""
    if model.main_input_name == "pixel_values":
        own = Geometry.of(model.config)
        count = own.channels * own.image[0] * own.image[1]
        pixels = torch.linspace(-1, 1, count, dtype=model.dtype, device=model.device)
        return {"pixel_values": pixels.reshape(1, own.channels, *own.image)}
    ids = torch.tensor([ordinary_ids(model, 4)], device=model.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def ordinary_ids(model: PreTrainedModel, count: int) -> list[int]:
    """So many ids that are no special token of the configuration, over again where there are fewer."""
    config = model.config.get_text_config()
    special = {getattr(config, f"{role}_token_id", None) for role in ("pad", "bos", "eos", "cls", "sep")}
    rows = embedded_ids(model)
    ordinary = (i for i in range(rows // 2, rows) if i not in special)
    usable = list(islice(ordinary, count)) or [rows - 1]
    return [usable[i % len(usable)] for i in range(count)]
