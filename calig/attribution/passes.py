"""The model passes that integration asks for, in chunks that fit; when memory runs out, in chunks of half the size.

Three kinds: the input's own run, which gives logits, states, gradients and attention gradients; the baseline's, which
gives its states and gradients; and rows (text, α) along the path at one depth. Where context is taken along the path,
each gives it, from the block above its depth.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from calig.attribution.quadrature import Float64
from calig.models.classifier import Baseline, Classifier, Pass
from calig.models.inputs import Batch

log = logging.getLogger(__name__)

TOKEN_BUDGET = {"cpu": 1024, "cuda": 32_768}
"""Tokens in flight at once, rows × length, by device type, unless the user says otherwise."""

_ATTENTION_BUDGET = 2**24
"""Attention probabilities held at once, over texts, blocks and heads."""


def output_of(logits: Tensor, targets: Tensor, output: str) -> Tensor:
    """The explained output (B,): the target's logit, or its margin over the strongest other class."""
    chosen = logits.gather(1, targets[:, None])[:, 0]
    if output == "logit":
        return chosen
    others = logits.scatter(1, targets[:, None], float("-inf"))
    return chosen - others.max(dim=1).values


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """One end of B paths: per depth, its states and the output's gradients there (B, T, D); logits (B, C).

    `given` (B, T), per block and where it was asked for, is what each token gives as a source of attention there.
    """

    states: list[Tensor]
    gradients: list[Tensor]
    logits: Tensor
    given: list[Tensor]

    @classmethod
    def joined(cls, parts: Sequence[End]) -> End:
        """Chunks of texts as one."""
        depths = range(len(parts[0].states))
        return cls(
            [torch.cat([part.states[depth] for part in parts]) for depth in depths],
            [torch.cat([part.gradients[depth] for part in parts]) for depth in depths],
            torch.cat([part.logits for part in parts]),
            [torch.cat([part.given[block] for part in parts]) for block in range(len(parts[0].given))],
        )


class Passes:
    """A classifier's passes for one baseline and output.

    Parameters
    ----------
    classifier
        The model.
    baseline
        What stands for "no content".
    output
        `logit` or `margin`, as in `output_of`.
    context
        Whether context is taken along the path.
    token_budget
        Tokens in flight at once; None: by device.
    """

    def __init__(
        self,
        classifier: Classifier,
        baseline: Baseline,
        output: str,
        context: bool,
        token_budget: int | None = None,
    ) -> None:
        self.classifier = classifier
        self.baseline = baseline
        self.output = output
        self.context = context
        self.token_budget = token_budget or TOKEN_BUDGET.get(classifier.device.type, TOKEN_BUDGET["cuda"])
        self.attention_budget = _ATTENTION_BUDGET

    def at_input(self, batch: Batch, choose: Callable[[int, Float64], int]) -> tuple[End, Tensor, Float64]:
        """The input's end, targets (B,), and ‖Ā‖₁ (B, L) in float64, Ā being the mean over heads of A ⊙ ∂y/∂A.

        What is given is Ā's sum over queries. `choose(i, logits)` gives text i's target.
        """
        ends: list[End] = []
        aims: list[Tensor] = []
        norms: list[Float64] = []

        def run(first: int, last: int, _longest: int) -> None:
            found = self.classifier.run(self._some(batch, first, last), attention=True)
            rows = numbers(found.logits.detach())
            chosen = [choose(first + i, row) if np.isfinite(row).all() else 0 for i, row in enumerate(rows)]
            targets = torch.tensor(chosen, device=self.classifier.device)
            end, gradients = self._end(found, targets, found.probabilities)
            relevance = [
                (_wide(a.detach()) * _wide(g)).mean(dim=1)
                for a, g in zip(found.probabilities, gradients, strict=True)
            ]
            norms.append(numbers(torch.stack([r.abs().sum(dim=(1, 2)) for r in relevance], dim=1)))
            ends.append(replace(end, given=[r.sum(dim=1) for r in relevance]))
            aims.append(targets)

        self._in_chunks([batch.mask.shape[1]] * len(batch.mask), run, attention=True)
        return End.joined(ends), torch.cat(aims), np.concatenate(norms)

    def at_baseline(self, batch: Batch, targets: Tensor) -> End:
        """The baseline's end."""
        ends: list[End] = []

        def run(first: int, last: int, _longest: int) -> None:
            found = self.classifier.run(self._some(batch, first, last), self.baseline, mixed=self.context)
            end, gradients = self._end(found, targets[first:last], found.mixed)
            given = [self.classifier.given(m, g) for m, g in zip(found.mixed, gradients, strict=True)]
            ends.append(replace(end, given=given))

        self._in_chunks([batch.mask.shape[1]] * len(batch.mask), run, attention=self._maps_along)
        return End.joined(ends)

    def along(
        self,
        depth: int,
        batch: Batch,
        start: Tensor,
        delta: Tensor,
        targets: Tensor,
        rows: Sequence[tuple[int, float]],
        lengths: Sequence[int],
    ) -> tuple[Float64, Float64, Float64]:
        """Contributions Σ_d (h − h')·∂f/∂h (rows, T), summed in float32 or better, outputs f (rows,), and context.

        Context (rows, T) is what is given in the block above; of width 0 where it is not asked for, or none is above.

        Parameters
        ----------
        depth
            Where the model is entered.
        batch, targets
            B texts of T tokens, and their targets (B,).
        start, delta
            (B, T, D) the baseline's states at that depth, and what the input's are beyond them.
        rows
            Text and α of each row.
        lengths
            Tokens of each text.
        """
        wide = torch.promote_types(torch.float32, start.dtype)
        texts = torch.tensor([i for i, _ in rows], device=start.device)
        alphas = torch.tensor([a for _, a in rows], device=start.device, dtype=wide)
        values = torch.zeros((len(rows), start.shape[1]), device=start.device, dtype=wide)
        outputs = torch.zeros(len(rows), device=start.device, dtype=wide)
        context = self.context and depth < self.classifier.depth
        given = torch.zeros((len(rows), start.shape[1] if context else 0), device=start.device, dtype=wide)

        def run(first: int, last: int, longest: int) -> None:
            index, alpha = texts[first:last], alphas[first:last, None, None]
            moved = delta[index, :longest]
            state = torch.addcmul(start[index, :longest].to(wide), alpha, moved.to(wide))
            state = state.to(start.dtype).requires_grad_()
            some, mixed = batch.rows(index, longest), None
            if context:
                logits, mixed = self.classifier.run_from_mixed(depth, state, some)
            else:
                logits = self.classifier.run_from(depth, state, some)
            output = output_of(logits, targets[index], self.output)
            gradient, *others = torch.autograd.grad(
                output.sum(), [state] if mixed is None else [state, mixed]
            )
            values[first:last, :longest] = contribution(gradient, moved)
            outputs[first:last] = output.detach()
            if mixed is not None:
                given[first:last, :longest] = self.classifier.given(mixed, *others)

        self._in_chunks([lengths[i] for i, _ in rows], run, attention=context and self._maps_along)
        return numbers(values), numbers(outputs), numbers(given)

    @property
    def _maps_along(self) -> bool:
        """Whether passes along the path hold attention probabilities."""
        return self.context and not self.classifier.by_value

    def _end(self, found: Pass, targets: Tensor, others: Sequence[Tensor]) -> tuple[End, Sequence[Tensor]]:
        """Gradients of the output at every state, and at other tensors of the pass."""
        total = output_of(found.logits, targets, self.output).sum()
        gradients = torch.autograd.grad(total, [*found.states, *others])
        depths = len(found.states)
        states = [state.detach() for state in found.states]
        end = End(states, list(gradients[:depths]), found.logits.detach().double(), [])
        return end, gradients[depths:]

    def _some(self, batch: Batch, first: int, last: int) -> Batch:
        return batch.rows(torch.arange(first, last, device=self.classifier.device), batch.mask.shape[1])

    def _in_chunks(
        self, lengths: Sequence[int], run: Callable[[int, int, int], None], attention: bool = False
    ) -> None:
        """Call `run(first, last, longest)` on runs of rows that fit; again, on half as many, out of memory."""
        done = 0
        while done < len(lengths):
            last, longest = done, 0
            while last < len(lengths):
                longer = max(longest, lengths[last])
                if last > done and not self._fits(last + 1 - done, longer, attention):
                    break
                last, longest = last + 1, longer
            try:
                run(done, last, longest)
            except RuntimeError as error:
                _only_out_of_memory(error, last - done)
                self._halve((last - done) // 2, longest, attention)
                continue
            done = last

    def _fits(self, rows: int, length: int, attention: bool) -> bool:
        within = rows * length <= self.token_budget
        return within and not (attention and rows * self._maps(length) > self.attention_budget)

    def _maps(self, length: int) -> int:
        return self.classifier.depth * self.classifier.heads * length**2

    def _halve(self, rows: int, length: int, attention: bool) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if attention:
            self.attention_budget = rows * self._maps(length)
            log.warning("out of memory: going on with attention gradients of %d texts at once", rows)
        else:
            self.token_budget = rows * length
            log.warning("out of memory: going on with a token budget of %d", self.token_budget)


def contribution(gradient: Tensor, moved: Tensor) -> Tensor:
    """Σ_d gradient · moved: (B, T, D) to (B, T), in float32 or better."""
    return (_wide(gradient) * _wide(moved)).sum(dim=-1)


def give_back_memory() -> None:
    """Return what batches of many shapes left in pieces to the system; glibc keeps it, and grows, else."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(torch.float32, tensor.dtype))


def numbers(tensor: Tensor) -> Float64:
    """The same in float64, on the CPU."""
    found: Float64 = tensor.double().cpu().numpy()
    return found


def _only_out_of_memory(error: RuntimeError, rows: int) -> None:
    """Re-raise what is not a lack of memory, or happened with a single row: less cannot be asked for."""
    if rows == 1 or not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
        raise error
