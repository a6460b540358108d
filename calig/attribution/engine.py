"""Layer-wise integrated gradients and attention gradients of a batch of texts, to a stated error.

For depth l, with h the hidden state of the input and h' that of the baseline input at that depth,

    LIG[l, i] = Σ_d (h[i, d] − h'[i, d]) · ∫₀¹ ∂f_l(h' + α(h − h')) / ∂h[i, d] dα,

where f_l is the rest of the model. Each (document, depth) climbs its own ladder of nested rules until its error
estimate and its completeness residual are within the tolerance; rows of all climbing documents share batches.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from calig.attribution.method import Method
from calig.attribution.quadrature import Float64, ladder
from calig.attribution.schedule import Climb, Schedule
from calig.models.classifier import Classifier, Pass
from calig.models.text import Batch, EncodedText, TextEncoder

log = logging.getLogger(__name__)

TOKEN_BUDGET = {"cpu": 4096, "cuda": 131_072}
"""Tokens in flight at once, rows × length, by device type, unless the user says otherwise."""

_ATTENTION_BUDGET = 2**24
"""Attention probabilities held at once, over texts, blocks and heads."""


_SLOW = 0.2
"""Ratio of successive differences above which a climb is slower than on any smooth integrand."""


@dataclass(frozen=True, slots=True, eq=False)
class DepthResult:
    """LIG of one document at one depth: `ig` (T,), its errors, nodes spent, and how it climbed."""

    ig: Float64
    error_estimate: float
    completeness_error: float
    converged: bool
    nodes: int
    climb: Climb


@dataclass(frozen=True, slots=True, eq=False)
class TextResult:
    """What the engine found for one text: logits (C,), depths 0..L, and, per block, context (T,) and its norm."""

    logits: Float64
    target: int
    output: float
    baseline_output: float
    depths: list[DepthResult]
    context: Float64
    context_norm: Float64
    block_passes: int

    @property
    def finite(self) -> bool:
        """Whether every number is finite."""
        ends = np.array([self.output, self.baseline_output])
        return all(
            np.isfinite(n).all() for n in (self.logits, ends, self.context, *(d.ig for d in self.depths))
        )


def output_of(logits: Tensor, targets: Tensor, output: str) -> Tensor:
    """The explained output (B,): the target's logit, or its margin over the strongest other class."""
    chosen = logits.gather(1, targets[:, None])[:, 0]
    if output == "logit":
        return chosen
    others = logits.scatter(1, targets[:, None], float("-inf"))
    return chosen - others.max(dim=1).values


def relative_residual(residual: float, change: float, gross: float) -> float:
    """Completeness residual over max(|Δy|, 0.05·‖LIG‖₁, 1e-3)."""
    return residual / max(abs(change), 0.05 * gross, 1e-3)


class Engine:
    """Runs the method on encoded texts. Out of memory halves the token budget and goes on."""

    def __init__(
        self,
        classifier: Classifier,
        encoder: TextEncoder,
        method: Method,
        baseline: Tensor,
        schedule: Schedule,
        token_budget: int | None = None,
    ) -> None:
        self.classifier = classifier
        self.encoder = encoder
        self.method = method
        self.baseline = baseline
        self.schedule = schedule
        self.ladders = [ladder(rule, method.max_nodes) for rule in schedule.rules]
        self.token_budget = token_budget or TOKEN_BUDGET.get(classifier.device.type, TOKEN_BUDGET["cuda"])
        self._attention_budget = _ATTENTION_BUDGET

    def pack(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Group texts of similar length so that longest × count stays within a quarter of the token budget.

        A text brings six nodes or more to every batch, so groups this small still fill it, and progress shows.
        """
        room = self.token_budget // 4
        group: list[int] = []
        for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
            if group and lengths[index] * (len(group) + 1) > room:
                yield group
                group = []
            group.append(index)
        if group:
            yield group

    def explain(
        self, texts: Sequence[EncodedText], choose: Callable[[int, Float64], int]
    ) -> list[TextResult]:
        """Explain one packed group. `choose(i, logits)` gives text i's target.

        A text whose outputs are not finite gets a result whose `finite` is false, and does not disturb the others.
        """
        batch = self.encoder.batch(texts, self.classifier.device)
        try:
            clean = self.classifier.run(batch)
            base = self.classifier.run(batch, self.baseline)
        except RuntimeError as error:
            _only_out_of_memory(error, len(texts))
            self._shrink_to(batch.mask.numel() // 2)
            half = len(texts) // 2
        else:
            return self._explain(texts, choose, batch, clean, base)
        return self.explain(texts[:half], choose) + self.explain(
            texts[half:], lambda i, row: choose(i + half, row)
        )

    def _explain(
        self,
        texts: Sequence[EncodedText],
        choose: Callable[[int, Float64], int],
        batch: Batch,
        clean: Pass,
        base: Pass,
    ) -> list[TextResult]:
        logits = clean.logits.double().cpu().numpy()
        finite = np.isfinite(logits).all(axis=1)
        chosen = [choose(i, row) if ok else 0 for i, (row, ok) in enumerate(zip(logits, finite, strict=True))]
        targets = torch.tensor(chosen, device=self.classifier.device)
        outputs = output_of(clean.logits.double(), targets, self.method.output).cpu().numpy()
        baselines = output_of(base.logits.double(), targets, self.method.output).cpu().numpy()

        depths = [
            self._climb(depth, texts, batch, clean, base, targets, outputs - baselines, finite)
            for depth in range(self.classifier.depth + 1)
        ]
        context, norms = self._context(batch, clean.states[0], targets)
        results = []
        for i, text in enumerate(texts):
            mine = [depth[i] for depth in depths]
            passes = sum(d.nodes * (self.classifier.depth - l) for l, d in enumerate(mine))  # noqa: E741
            results.append(
                TextResult(
                    logits=logits[i],
                    target=chosen[i],
                    output=float(outputs[i]),
                    baseline_output=float(baselines[i]),
                    depths=mine,
                    context=context[i, :, : len(text)],
                    context_norm=norms[i],
                    block_passes=passes + self.classifier.depth,
                )
            )
        return results

    def _climb(
        self,
        depth: int,
        texts: Sequence[EncodedText],
        batch: Batch,
        clean: Pass,
        base: Pass,
        targets: Tensor,
        changes: Float64,
        finite: np.ndarray,
    ) -> list[DepthResult]:
        """Climb every text's ladder at one depth; rows (text, node) of one rung share batches."""
        start, delta = base.states[depth], clean.states[depth] - base.states[depth]
        rules = self.ladders[depth]
        values = [np.empty((0, len(text))) for text in texts]
        rung = self.schedule.first[depth]
        results: list[DepthResult | None] = [None] * len(texts)
        climbing = [i for i in range(len(texts)) if finite[i]]
        while climbing:
            rows = [(i, a) for i in climbing for a in rules.new_nodes(rung, len(values[i]))]
            fresh = self._contributions(depth, batch, start, delta, targets, rows)
            above = []
            for i, part in zip(climbing, np.split(fresh, len(climbing)), strict=True):
                values[i] = np.concatenate([values[i], part[:, : len(texts[i])]])
                results[i] = result = self._judge(depth, values[i], rung, changes[i])
                if not result.converged:
                    above.append(i)
            climbing = [] if rung == rules.top else above
            rung += 1
        nothing = DepthResult(np.empty(0), np.nan, np.nan, False, 0, Climb(depth, ()))
        return [
            result or replace(nothing, ig=np.full(len(text), np.nan))
            for result, text in zip(results, texts, strict=True)
        ]

    def _judge(self, depth: int, values: Float64, rung: int, change: float) -> DepthResult:
        """Integrate at `rung` and every rung below, and decide whether the finest is good enough."""
        rules = self.ladders[depth]
        integrals = [rules.weights[k] @ values[: rules.counts[k]] for k in range(rung + 1)]
        differences = tuple(
            _relative(float(np.linalg.norm(fine - coarse)), float(np.linalg.norm(fine)))
            for coarse, fine in pairwise(integrals)
        )
        ig = integrals[-1]
        estimate = self._factor(depth, rung, differences) * differences[-1]
        residual = abs(float(ig.sum()) - change)
        tolerance = self.method.tolerance
        good = (
            estimate <= tolerance
            and relative_residual(residual, change, float(np.abs(ig).sum())) <= tolerance
        )
        return DepthResult(ig, estimate, residual, bool(good), rules.counts[rung], Climb(depth, differences))

    def _factor(self, depth: int, rung: int, differences: Sequence[float]) -> float:
        """The schedule's factor, or the rate at which this climb's differences shrink, where that is slow.

        Where the path crosses a kink (a ReLU in the head), no rule gains as fast as it does on smooth integrands.
        """
        factor = self.schedule.factors[depth][rung]
        rate = differences[-1] / differences[-2] if len(differences) > 1 and differences[-2] > 0 else 0.0
        return max(factor, min(1.0, rate)) if rate > _SLOW else factor

    def _contributions(
        self,
        depth: int,
        batch: Batch,
        start: Tensor,
        delta: Tensor,
        targets: Tensor,
        rows: Sequence[tuple[int, float]],
    ) -> Float64:
        """Σ_d (h − h')·∂f/∂h at every (text, node) row: (rows, T), summed in float32 or better."""
        out = np.empty((len(rows), start.shape[1]))
        wide = torch.promote_types(torch.float32, start.dtype)
        done = 0
        while done < len(rows):
            chunk = rows[done : done + max(1, self.token_budget // start.shape[1])]
            index = torch.tensor([i for i, _ in chunk], device=start.device)
            alphas = torch.tensor([a for _, a in chunk], device=start.device, dtype=wide)
            try:
                moved = delta[index].to(wide)
                state = torch.addcmul(start[index].to(wide), alphas[:, None, None], moved)
                state = state.to(start.dtype).requires_grad_()
                logits = self.classifier.run_from(depth, state, batch.rows(index))
                total = output_of(logits, targets[index], self.method.output).sum()
                (gradient,) = torch.autograd.grad(total, state)
                part = (gradient.to(wide) * moved).sum(dim=-1)
            except RuntimeError as error:
                _only_out_of_memory(error, len(chunk))
                self._shrink_to(len(chunk) * start.shape[1] // 2)
                continue
            out[done : done + len(chunk)] = part.double().cpu().numpy()
            done += len(chunk)
        return out

    def _shrink_to(self, tokens: int) -> None:
        self.token_budget = tokens
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("out of memory: going on with a token budget of %d", tokens)

    def _context(self, batch: Batch, embedded: Tensor, targets: Tensor) -> tuple[Float64, Float64]:
        """Attention gradients at the input: ctx (B, L, T) and ‖Ā‖₁ (B, L), Ā = mean over heads of A ⊙ ∂y/∂A."""
        texts, length = embedded.shape[:2]
        heads = self.classifier.heads
        size = heads * length * length * self.classifier.depth
        at_once = max(1, self._attention_budget // size)
        context = np.empty((texts, self.classifier.depth, length))
        norms = np.empty((texts, self.classifier.depth))
        done = 0
        while done < texts:
            index = torch.arange(done, min(done + at_once, texts), device=embedded.device)
            try:
                state = embedded[index].clone().requires_grad_()
                logits, probabilities = self.classifier.run_with_attention(state, batch.rows(index))
                total = output_of(logits, targets[index], self.method.output).sum()
                gradients = torch.autograd.grad(total, probabilities)
                for block, (a, g) in enumerate(zip(probabilities, gradients, strict=True)):
                    wide = torch.promote_types(torch.float32, a.dtype)
                    relevance = (a.detach().to(wide) * g.to(wide)).mean(dim=1)
                    context[done : done + len(index), block] = relevance.sum(dim=1).double().cpu().numpy()
                    norms[done : done + len(index), block] = (
                        relevance.abs().sum(dim=(1, 2)).double().cpu().numpy()
                    )
            except RuntimeError as error:
                _only_out_of_memory(error, len(index))
                at_once = len(index) // 2
                self._attention_budget = at_once * size
                log.warning("out of memory: going on with attention gradients of %d texts at once", at_once)
                continue
            done += len(index)
        return context, norms


def give_back_memory() -> None:
    """Return what batches of many shapes left in pieces to the system; glibc keeps it, and grows, else."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _only_out_of_memory(error: RuntimeError, rows: int) -> None:
    """Re-raise what is not a lack of memory, or happened with a single row: less cannot be asked for."""
    if rows == 1 or not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
        raise error


def _relative(difference: float, norm: float) -> float:
    if difference == 0:
        return 0.0
    return difference / norm if norm > 0 else float("inf")
