"""A classifier that can be entered at any depth.

Depth 0 is what the first block is given and depth l the output of block l, so there are L + 1 depths. To run the rest
of the model from depth l, the blocks below it are replaced, for the time of the call, by modules that do nothing, and
block l+1 is given a hidden state of ours; masks, positions, final norms and the head stay the model's own. To run a
baseline, the word embeddings of content tokens are replaced inside the model's own embedding module: ids, mask,
positions and the row that the head pools from stay the input's. An image's baseline is another image, or an embedding
in place of that of each patch.

Nothing here knows a family; what differs in one is declared (`calig.models.families`), and what holds for all is
verified (`calig.models.verification`).
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from calig.models.attention import capturing, values_of
from calig.models.blocks import Blocks
from calig.models.experts import refuse_experts
from calig.models.families import family_of
from calig.models.images import Geometry
from calig.models.independence import Memory, find_dependence
from calig.models.inputs import Batch
from calig.models.verification import gives_by_value, verify
from calig.records import Head, Modality

Baseline: TypeAlias = Tensor | Callable[[Tensor], Tensor]
"""(E,) the embedding in place of that of every content token, or images (B, C, H, W) made of images."""


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """One forward pass: `states[l]` (B, T, D) is the hidden state at depth l, `logits` is (B, C).

    `probabilities` (B, heads, T, T) are each block's attention, and `mixed` what `Classifier.given` asks for of each
    block, where they were asked for.
    """

    states: list[Tensor]
    logits: Tensor
    probabilities: list[Tensor]
    mixed: list[Tensor]


class Classifier:
    """The model as embeddings → blocks → head. One thread at a time; the model is left as it was found.

    Parameters
    ----------
    model
        A classifier of sequences or images, in eval mode.
    head
        What its logits mean, as in `Pretrained.head`. `binary`: its one logit z is read as the two logits (0, z).

    Attributes
    ----------
    one_length
        Whether texts of one batch must be of one length, for their answers not to depend on each other.

    Raises
    ------
    InputError
        The model cannot be read so: its blocks or attention cannot be told, or entering it gives other answers.
    """

    def __init__(self, model: PreTrainedModel, head: Head = "single_label") -> None:
        self.model = model
        self.head = head
        self.family = family_of(model.config)
        refuse_experts(model, model.config)
        self.blocks = Blocks(model, self.family)
        self._returned: dict[str | None, int] = {}
        self._options: dict[str, Any] = {}
        if "use_cache" in inspect.signature(model.forward).parameters:
            self._options["use_cache"] = False
        forwards = [inspect.signature(module.forward).parameters for module in model.modules()]
        self._interpolates = any("interpolate_pos_encoding" in parameters for parameters in forwards)
        self._lock = threading.RLock()
        self.by_value = False
        self._memory: Memory | None = None
        self.one_length, self._memory = find_dependence(self)
        self._attention, self.heads, self.special = verify(self)
        self.by_value = gives_by_value(self)

    @property
    def depth(self) -> int:
        """L, the number of blocks; depths run from 0 to L."""
        return len(self.blocks)

    @property
    def modality(self) -> Modality:
        """What the model reads."""
        return "image" if self.model.main_input_name == "pixel_values" else "text"

    @property
    def resizes(self) -> bool:
        """Whether an image model takes images of other sizes than its own, its position embeddings interpolated."""
        return any(hasattr(module, "interpolate_pos_encoding") for module in self.model.modules())

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self.model.device

    def run(
        self,
        batch: Batch,
        baseline: Baseline | None = None,
        attention: str | bool = False,
        mixed: bool = False,
    ) -> Pass:
        """Run the whole model, keeping the hidden state at every depth.

        Where gradients are enabled, logits and probabilities are differentiable in every state: depth 0 is a leaf.

        Parameters
        ----------
        batch
            B inputs of T tokens.
        baseline
            What is run in place of the input; None to run the input itself.
        attention
            Whether to keep attention probabilities; where they are found is known from verification unless it is said.
        mixed
            Whether to keep what each block mixes; not together with probabilities.
        """
        states: list[Tensor] = []
        probabilities: list[Tensor] = []
        sources: list[Tensor] = []
        where: str | None = None
        with ExitStack() as stack:
            stack.enter_context(self._lock)
            if isinstance(baseline, Tensor):
                stack.enter_context(self._embedding(batch, baseline))
            elif baseline is not None:
                batch = batch.with_pixels(baseline(batch.inputs["pixel_values"]))
            if attention:
                where = self._attention if attention is True else attention
                probabilities = stack.enter_context(capturing(self.model, self.blocks, where))
            elif mixed:
                sources, where = stack.enter_context(self._mixing(first=False))
            last = stack.enter_context(self.blocks.watched(states))
            logits = self.answer(batch)
        self._returned[where] = last.returned
        assert last.output is not None
        return Pass([*states, last.output], logits, probabilities, sources)

    def run_from(self, depth: int, state: Tensor, batch: Batch) -> Tensor:
        """Logits (B, C) of the rest of the model, entered at `depth` with `state` (B, T, D); differentiable."""
        with self._lock, self.blocks.entered(depth, state, self._returned[None]):
            return self.answer(batch)

    def run_from_mixed(self, depth: int, state: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The same, and what the first block that runs mixes, for `given`; of depths below L."""
        with self._lock, self._mixing(first=True) as (sources, where):
            with self.blocks.entered(depth, state, self._returned[where]):
                logits = self.answer(batch)
            return logits, sources[0]

    def given(self, mixed: Tensor, gradient: Tensor) -> Tensor:
        """What each token gives to others in a block, (B, T): Σ over queries of the mean over heads of A ⊙ ∂y/∂A.

        Parameters
        ----------
        mixed, gradient
            What a block mixes, and the gradient of y with respect to it: values (B, heads or groups, T, d), whose
            product with their gradient is the same by the chain rule, or attention probabilities (B, heads, T, T).
        """
        wide = torch.promote_types(torch.float32, mixed.dtype)
        product = mixed.detach().to(wide) * gradient.to(wide)
        return product.sum(dim=(1, 3)) / self.heads if self.by_value else product.sum(dim=2).mean(dim=1)

    @contextmanager
    def _mixing(self, first: bool) -> Iterator[tuple[list[Tensor], str | None]]:
        """What blocks mix, of all or of the first that runs, and how the model is run for it."""
        if self.by_value:
            with values_of(self.model, first) as found:
                yield found, None
        else:
            with capturing(self.model, self.blocks, self._attention) as found:
                yield found, self._attention

    def answer(self, batch: Batch) -> Tensor:
        """The model's own logits (B, C), whatever stands in its blocks' place."""
        if self._memory is not None:
            self._memory.put_back()
        options = dict(self._options)
        pixels = batch.inputs.get("pixel_values")
        if pixels is not None and self._interpolates:
            options["interpolate_pos_encoding"] = (
                tuple(pixels.shape[-2:]) != Geometry.of(self.model.config).image
            )
        with self._padding(batch.pad_id):
            logits: Tensor = self.model(**batch.inputs, **options).logits
        return torch.cat([torch.zeros_like(logits), logits], dim=1) if self.head == "binary" else logits

    def word_embedding(self, token_id: int | None) -> Tensor:
        """(E,) the word embedding of a token; zeros for None."""
        table = self.model.get_input_embeddings()
        with torch.no_grad():
            vector: Tensor = table(torch.tensor([token_id or 0], device=self.device))[0]
        return torch.zeros_like(vector) if token_id is None else vector

    def mask_embedding(self) -> Tensor | None:
        """(E,) what an image model was taught to see in place of a hidden patch; None if it was not."""
        tokens = [p for name, p in self.model.named_parameters() if name.rpartition(".")[2] == "mask_token"]
        return tokens[0].detach().reshape(-1) if tokens else None

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
    def _embedding(self, batch: Batch, baseline: Tensor) -> Iterator[None]:
        """Replace the embeddings of content; GPT-2 looks token types up in the same table, after the words."""
        seen = 0
        content = batch.content if self.modality == "text" else batch.content[:, len(self.special) :]

        def replace(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
            nonlocal seen
            seen += 1
            if seen > 1:
                return output
            return torch.where(content[..., None], baseline.to(output.dtype), output)

        hook = self.model.get_input_embeddings().register_forward_hook(replace)
        try:
            yield
        finally:
            hook.remove()
