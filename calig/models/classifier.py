"""A classifier that can be entered at any depth.

Depth 0 is what the first block is given and depth l the output of block l, so there are L + 1 depths. To run the rest
of the model from depth l, the blocks below it are replaced, for the time of the call, by modules that do nothing, and
block l+1 is given a hidden state of ours; masks, positions, final norms and the head stay the model's own. To run a
baseline, the word embeddings of content tokens are replaced inside the model's own embedding module: ids, mask,
positions and the row that the head pools from stay the input's.

Nothing here knows a family; what differs in one is declared (`calig.models.families`), and what holds for all is
verified (`calig.models.verification`).
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from calig.models.attention import capturing
from calig.models.blocks import Blocks, Watched
from calig.models.families import family_of
from calig.models.text import Batch
from calig.models.verification import verify
from calig.records import Head


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """One forward pass: `states[l]` (B, T, D) is the hidden state at depth l, `logits` is (B, C)."""

    states: list[Tensor]
    logits: Tensor


class Classifier:
    """The model as embeddings → blocks → head. One thread at a time; the model is left as it was found.

    Parameters
    ----------
    model
        A sequence classifier, in eval mode.
    head
        What its logits mean, as in `Pretrained.head`. `binary`: its one logit z is read as the two logits (0, z).

    Raises
    ------
    InputError
        The model cannot be read so: its blocks or attention cannot be told, or entering it gives other answers.
    """

    def __init__(self, model: PreTrainedModel, head: Head = "single_label") -> None:
        self.model = model
        self.head = head
        self.family = family_of(model.config)
        self._blocks = Blocks(model, self.family)
        self._returned = 0
        self._options: dict[str, Any] = {}
        if "use_cache" in inspect.signature(model.forward).parameters:
            self._options["use_cache"] = False
        self._lock = threading.RLock()
        self._attention, self.heads = verify(self)

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
        watched = [Watched(block, states) for block in self._blocks]
        with self._lock, torch.no_grad(), self._embedding(batch, baseline), self._blocks.replaced(watched):
            logits = self.answer(batch)
        last = watched[-1]
        self._returned = last.returned
        assert last.output is not None
        return Pass([*states, last.output.detach()], logits)

    def run_from(self, depth: int, state: Tensor, batch: Batch) -> Tensor:
        """Logits (B, C) of the rest of the model, entered at `depth` with `state` (B, T, D); differentiable."""
        with self._lock, self._blocks.entered(depth, state, self._returned):
            return self.answer(batch)

    def run_with_attention(
        self, state: Tensor, batch: Batch, where: str | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, C) from depth 0 and each block's attention probabilities (B, heads, T, T), differentiable.

        `state` (B, T, D) must require grad; it is what ties the probabilities to the logits, as weights are frozen.
        `where` they are found is known from verification unless it is said.
        """
        with self._lock, capturing(self.model, self._blocks, where or self._attention) as probabilities:
            logits = self.run_from(0, state, batch)
        return logits, probabilities

    def answer(self, batch: Batch) -> Tensor:
        """The model's own logits (B, C), whatever stands in its blocks' place."""
        with self._padding(batch.pad_id):
            logits: Tensor = self.model(**batch.inputs, **self._options).logits
        return torch.cat([torch.zeros_like(logits), logits], dim=1) if self.head == "binary" else logits

    def word_embedding(self, token_id: int | None) -> Tensor:
        """(E,) the word embedding of a token; zeros for None."""
        table = self.model.get_input_embeddings()
        with torch.no_grad():
            vector: Tensor = table(torch.tensor([token_id or 0], device=self.device))[0]
        return torch.zeros_like(vector) if token_id is None else vector

    @contextmanager
    def _padding(self, pad_id: int | None) -> Iterator[None]:
        """Let the configuration know a batch's own padding id: decoders' heads pool before it."""
        if pad_id is None:
            yield
            return
        config = self.model.config.get_text_config()
        before = config.pad_token_id
        config.pad_token_id = pad_id
        try:
            yield
        finally:
            config.pad_token_id = before

    @contextmanager
    def _embedding(self, batch: Batch, baseline: Tensor | None) -> Iterator[None]:
        """Replace the word embeddings of content; GPT-2 looks token types up in the same table, after the words."""
        if baseline is None:
            yield
            return
        seen = 0

        def replace(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
            nonlocal seen
            seen += 1
            if seen > 1:
                return output
            return torch.where(batch.content[..., None], baseline.to(output.dtype), output)

        hook = self.model.get_input_embeddings().register_forward_hook(replace)
        try:
            yield
        finally:
            hook.remove()
