"""Attention probabilities of every block, in the autograd graph, of a model that is run once.

Three places to find them: the attention function that the configuration names, which is exchanged for one written out
here; the tensors of `output_attentions=True`, for families that compute attention in their own way; or the output of a
module within each block, for families that declare it.

What a token gives to others in a block, Σ_i A[i, j]·∂y/∂A[i, j], needs no such map where the block mixes values by its
attention alone, o_i = Σ_j A[i, j]·v_j: it is v_j · ∂y/∂v_j, by the chain rule. So values are kept too, from the fast
kernel.

And attention of the first token alone, for the last block of a model whose head reads nothing else of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask
from transformers.utils.output_capturing import maybe_install_capturing_hooks

_CAPTURE = "calig_capture"
_FIRST = "calig_first_row"
_VALUES = "calig_values"
_captured = threading.local()


@contextmanager
def capturing(model: PreTrainedModel, blocks: Sequence[nn.Module], where: str) -> Iterator[list[Tensor]]:
    """Collect, while the model runs, each block's probabilities (B, heads, T, T), in order.

    Parameters
    ----------
    where
        `interface`, `outputs`, or a module's path within a block, as in `Family.attention`.
    """
    found: list[Tensor] = []
    with ExitStack() as stack:
        if where == "interface":
            stack.enter_context(_implementation(model.config, _CAPTURE))
            _captured.probabilities = found
            stack.callback(lambda: delattr(_captured, "probabilities"))
        elif where == "outputs":
            _collect_outputs(model, found, stack)
        else:
            for module in dict.fromkeys(block.get_submodule(where) for block in blocks):
                hook = module.register_forward_hook(lambda _module, _args, output: found.append(output))
                stack.callback(hook.remove)
        yield found


@contextmanager
def values_of(model: PreTrainedModel, first: bool) -> Iterator[list[Tensor]]:
    """Collect, while the model runs, the values (B, heads or groups of them, T, d) that each block mixes.

    With `first`, those of the block that runs first alone. Attention runs as it would, by the fast kernel.
    """
    found: list[Tensor] = []
    fast = model.config._attn_implementation == "sdpa"
    with _implementation(model.config, _VALUES) if fast else capturing(model, (), "interface"):
        _captured.values, _captured.most = found, 1 if first else None
        try:
            yield found
        finally:
            del _captured.values, _captured.most


def _keep(value: Tensor) -> None:
    found = getattr(_captured, "values", None)
    if found is not None and (_captured.most is None or len(found) < _captured.most):
        found.append(value)


def _attend_fast(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> Any:
    """The usual fast attention, with the values kept."""
    _keep(value)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **_kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention written out, softmax(QKᵀ·scaling + mask)·V, with the probabilities kept for their gradients."""
    _keep(value)
    scale = query.size(-1) ** -0.5 if scaling is None else scaling
    groups = query.size(1) // key.size(1)
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    weights = query @ key.transpose(2, 3) * scale
    if softcap is not None:
        weights = (weights / softcap).tanh() * softcap
    if attention_mask is not None:
        weights = weights + attention_mask
    probabilities = weights.softmax(dim=-1)
    _captured.probabilities.append(probabilities)
    return (probabilities @ value).transpose(1, 2).contiguous(), probabilities


def _attend_first(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one query to all keys, which a block that believes in one token took for T × heads heads."""
    texts, heads, _, size = query.shape
    key, value = (x.transpose(1, 2).reshape(texts, -1, heads, size).transpose(1, 2) for x in (key, value))
    _keep(value)
    mask = attention_mask if attention_mask is None else attention_mask[..., :1, :]
    out = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    return out.transpose(1, 2).contiguous(), None


@contextmanager
def of_first_row(block: nn.Module, names: Sequence[str], state: Tensor) -> Iterator[None]:
    """Let a block run on the first row of `state` (B, T, D) alone, with keys and values of all rows.

    `names` are the linear maps in the block that make keys and values.
    """
    attention = block.get_submodule(names[0].rpartition(".")[0])
    with ExitStack() as stack:
        for name in names:
            hook = block.get_submodule(name).register_forward_pre_hook(lambda _module, _args: (state,))
            stack.callback(hook.remove)
        stack.enter_context(_implementation(attention.config, _FIRST))
        yield


AttentionInterface.register(_FIRST, _attend_first)
AttentionInterface.register(_CAPTURE, _attend)
AttentionMaskInterface.register(_CAPTURE, eager_mask)
AttentionInterface.register(_VALUES, _attend_fast)
AttentionMaskInterface.register(_VALUES, sdpa_mask)


@contextmanager
def _implementation(config: Any, name: str) -> Iterator[None]:
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def _collect_outputs(model: PreTrainedModel, found: list[Tensor], stack: ExitStack) -> None:
    def ask(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "output_attentions": True}

    def take(_module: nn.Module, _args: Any, output: Any) -> None:
        found.extend(a for a in getattr(output, "attentions", None) or () if a is not None)

    stack.enter_context(_hooks_kept(model))
    maybe_install_capturing_hooks(model)  # now: nothing stands in the blocks' place yet, where they are put
    stack.enter_context(_implementation(model.config, "eager"))
    for hook in (
        model.register_forward_pre_hook(ask, with_kwargs=True),
        model.register_forward_hook(take),
    ):
        stack.callback(hook.remove)


_INSTALLED = "_output_capturing_hooks_installed"


@contextmanager
def _hooks_kept(model: PreTrainedModel) -> Iterator[None]:
    """Take away the hooks that transformers installs when it is asked for attentions, and its note that it did."""
    before = [(module, set(module._forward_hooks), _INSTALLED in vars(module)) for module in model.modules()]
    try:
        yield
    finally:
        for module, hooks, noted in before:
            for extra in set(module._forward_hooks) - hooks:
                del module._forward_hooks[extra]
            if not noted:
                vars(module).pop(_INSTALLED, None)
