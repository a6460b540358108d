"""A model family that transformers has never heard of: its blocks, their number and its attention named its own way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel


class OwnConfig(PretrainedConfig):
    model_type = "my-model"


class Mixing(nn.Module):
    """Attention of two heads, not through any interface."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, 3 * width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, state: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (2, -1)).transpose(1, 2) for part in self.project(state).chunk(3, -1)
        )
        weights = (query @ key.transpose(2, 3)).masked_fill(mask[:, None, None] == 0, -1e9).softmax(-1)
        return (self.dropout(weights) @ value).transpose(1, 2).flatten(2)


class Stage(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = Mixing(width)
        self.norm = nn.LayerNorm(width)

    def forward(self, *, state: Tensor, mask: Tensor) -> Tensor:
        return self.norm(state + self.attention(state, mask).tanh())


class OwnModel(PreTrainedModel):
    """`leak`: the head also reads the embeddings, past the blocks; `halve`: blocks see every other token."""

    config_class = OwnConfig

    def __init__(self, leak: bool = False, halve: bool = False) -> None:
        super().__init__(OwnConfig(num_labels=3, pad_token_id=0))
        self.leak, self.halve = leak, halve
        self.words = nn.Embedding(50, 8)
        self.encoder = nn.ModuleDict({"stages": nn.ModuleList(Stage(8) for _ in range(4))})
        self.score = nn.Linear(8, 3)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> Any:
        embedded = self.words(input_ids)
        state, mask = embedded, attention_mask
        if self.halve:
            state, mask = state[:, ::2], mask[:, ::2]
        for stage in self.encoder["stages"]:
            state = stage(state=state, mask=mask)
        pooled = state[:, 0] + (embedded.mean(1) if self.leak else 0)
        return SimpleNamespace(logits=self.score(pooled))


def own_model(**flaws: bool) -> OwnModel:
    torch.manual_seed(0)
    model = OwnModel(**flaws).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn_like(parameter))
    return model
