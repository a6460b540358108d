"""A classifier that can be entered at any depth.

Depth 0 is the embedding output and depth l the output of block l, so there are L + 1 depths. To run the rest of the
model from depth l, the list of blocks is replaced, for the time of the call, by one module that returns the given
hidden state, followed by blocks l+1..L; masks, positions, final norms and the head stay the model's own. To run a
baseline, the word embeddings of content tokens are replaced inside the model's own embedding module: ids, mask,
positions and the row that the head pools from stay the input's.

Nothing here knows a family. A model qualifies when exactly one `ModuleList` has `num_hidden_layers` blocks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from calig.errors import InputError
from calig.models.text import Batch
from calig.records import Head

_CAPTURE = "calig_capture"
_captured = threading.local()


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """One forward pass: `states[l]` (B, T, D) is the hidden state at depth l, `logits` is (B, C)."""

    states: list[Tensor]
    logits: Tensor


class _Entry(nn.Module):
    """Stands where the blocks below the entered depth stood; returns the given hidden state as they would."""

    def __init__(self, state: Tensor, stands_for: nn.Module, as_tuple: bool) -> None:
        super().__init__()
        self._state = state
        self._as_tuple = as_tuple
        object.__setattr__(self, "_stands_for", stands_for)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._stands_for, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return (self._state,) if self._as_tuple else self._state


class Classifier:
    """The model as embeddings → blocks → head. One thread at a time; the model is left as it was found.

    Raises
    ------
    InputError
        The model's blocks cannot be told.
    """

    def __init__(self, model: PreTrainedModel, head: Head = "single_label") -> None:
        self.model = model
        self.head = head
        self._owner, self._attribute = _find_blocks(model)
        self._blocks: nn.ModuleList = getattr(self._owner, self._attribute)
        self._as_tuple = False
        self._lock = threading.RLock()

    @property
    def depth(self) -> int:
        """L, the number of blocks; depths run from 0 to L."""
        return len(self._blocks)

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self.model.device

    def run(self, batch: Batch, baseline: Tensor | None = None) -> Pass:
        """Run the whole model without gradients, keeping the hidden state at every depth.

        Parameters
        ----------
        batch
            B texts of T tokens.
        baseline
            (E,) the word embedding that replaces that of every content token, or None to run the input itself.
        """
        states: list[Tensor] = []

        def enter(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states.append((args[0] if args else kwargs["hidden_states"]).detach())

        def leave(_module: nn.Module, _args: Any, output: Any) -> None:
            self._as_tuple = isinstance(output, tuple)
            states.append((output[0] if isinstance(output, tuple) else output).detach())

        def replace(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
            assert baseline is not None
            return torch.where(batch.content[..., None], baseline.to(output.dtype), output)

        with self._lock, torch.no_grad():
            hooks = [self._blocks[0].register_forward_pre_hook(enter, with_kwargs=True)]
            hooks += [block.register_forward_hook(leave) for block in self._blocks]
            if baseline is not None:
                hooks.append(self.model.get_input_embeddings().register_forward_hook(replace))
            try:
                logits = self._logits(batch)
            finally:
                for hook in hooks:
                    hook.remove()
        return Pass(states, logits)

    def run_from(self, depth: int, state: Tensor, batch: Batch) -> Tensor:
        """Logits (B, C) of the rest of the model, entered at `depth` with `state` (B, T, D); differentiable."""
        entry = _Entry(state, self._blocks[max(depth - 1, 0)], self._as_tuple)
        with self._lock:
            setattr(self._owner, self._attribute, nn.ModuleList([entry, *self._blocks[depth:]]))
            try:
                logits = self._logits(batch)
            finally:
                setattr(self._owner, self._attribute, self._blocks)
        return logits

    def run_with_attention(self, state: Tensor, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, C) from depth 0 and each block's attention probabilities (B, heads, T, T), differentiable.

        `state` (B, T, D) must require grad; it is what ties the probabilities to the logits, as weights are frozen.
        """
        with self._lock, _capturing(self.model) as probabilities:
            logits = self.run_from(0, state, batch)
        if len(probabilities) != self.depth:
            raise InputError(
                f"model.id: {type(self.model).__name__} computes attention in its own way (captured "
                f"{len(probabilities)} of {self.depth} blocks); this family is not supported yet"
            )
        return logits, probabilities

    def _logits(self, batch: Batch) -> Tensor:
        """(B, C); one logit z of a binary head as the two classes' logits 0 and z."""
        logits: Tensor = self.model(**batch.inputs).logits
        return torch.nn.functional.pad(logits, (1, 0)) if self.head == "binary" else logits

    def word_embedding(self, token_id: int | None) -> Tensor:
        """(E,) the word embedding of a token; zeros for None."""
        table = self.model.get_input_embeddings()
        with torch.no_grad():
            vector: Tensor = table(torch.tensor([token_id or 0], device=self.device))[0]
        return torch.zeros_like(vector) if token_id is None else vector


def _find_blocks(model: PreTrainedModel) -> tuple[nn.Module, str]:
    count = getattr(model.config, "num_hidden_layers", None)
    found = [
        (owner, name)
        for owner in model.modules()
        for name, child in owner.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == count
    ]
    if len(found) != 1:
        raise InputError(
            f"model.id: cannot tell the blocks of {type(model).__name__}: expected one list of {count} blocks, found "
            f"{len(found)}; this family is not supported yet"
        )
    return found[0]


def _capture_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention written out, softmax(QKᵀ·scaling + mask)·V, with the probabilities kept for their gradients."""
    scale = query.size(-1) ** -0.5 if scaling is None else scaling
    groups = query.size(1) // key.size(1)
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    weights = query @ key.transpose(2, 3) * scale
    if attention_mask is not None:
        weights = weights + attention_mask
    probabilities = weights.softmax(dim=-1)
    _captured.probabilities.append(probabilities)
    return (probabilities @ value).transpose(1, 2).contiguous(), probabilities


AttentionInterface.register(_CAPTURE, _capture_attention)
AttentionMaskInterface.register(_CAPTURE, eager_mask)


@contextmanager
def _capturing(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    before = model.config._attn_implementation
    probabilities: list[Tensor] = []
    _captured.probabilities = probabilities
    model.config._attn_implementation = _CAPTURE
    try:
        yield probabilities
    finally:
        model.config._attn_implementation = before
        del _captured.probabilities
