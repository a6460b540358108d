"""Mixtures of experts cannot be explained, and are refused by name."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from calig.errors import InputError

_COUNTS = (
    *("num_experts", "num_local_experts", "n_routed_experts", "num_routed_experts", "moe_num_experts"),
    *("n_experts", "num_moe_experts"),
)
_NAMED = re.compile(r"(Moe|MoE|MOE)(Block|Layer|MLP|FeedForward|$)|SparseMoe|Experts$|Router$")
_WHY = (
    "a router sends each token to a few experts, and to others from one step of the path to the next, so that the "
    "integral's sums cannot hold; and where an expert takes a limited number of tokens, the texts of a batch change "
    "each other's answers"
)


def refuse_configured_experts(config: Any) -> None:
    """Raise an InputError if a configuration is that of a mixture of experts."""
    text = config.get_text_config()
    if getattr(text, "is_moe", True) is False:
        return
    for name in _COUNTS:
        count = getattr(text, name, None)
        if isinstance(count, (int, list, tuple)) and not isinstance(count, bool) and _most(count) > 1:
            _refuse(config, f"{name}: {count} in its config.json")


def refuse_experts(model: nn.Module, config: Any) -> None:
    """Raise an InputError if a model has experts, or a router to them, whatever its configuration says."""
    for path, module in model.named_modules():
        last = path.rpartition(".")[2]
        if last in ("experts", "router") or (path and _NAMED.search(type(module).__name__)):
            _refuse(config, f"its {path} is a {type(module).__name__}")


def _most(count: Any) -> int:
    return count if isinstance(count, int) else max((one for one in count if isinstance(one, int)), default=0)


def _refuse(config: Any, sign: str) -> None:
    raise InputError(
        f"model.id: {config.model_type} models are mixtures of experts ({sign}) and cannot be explained: {_WHY}"
    )
